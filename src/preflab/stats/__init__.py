"""Intervals, paired tests, power, aggregates, ranking, win rates, battles and calibration; numpy and scipy only."""
