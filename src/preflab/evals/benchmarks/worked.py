"""Worked examples for the three BIG-Bench Hard tasks, which have no training rows.

They are ours: none is an item of the benchmark, and the published prompts are not carried here. So a score with them is
comparable with other scores of preflab, and only roughly with numbers printed elsewhere.
"""

from collections.abc import Mapping

WORKED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "causal_judgement": (
        (
            "How would a typical person answer each of the following questions about causation?\nNora waters the plant "
            "on the shared balcony every morning, as the neighbours agreed. Omar promised to water it on Sunday, while "
            "Nora was away, and forgot. The plant dried out on Sunday. Did Omar cause the plant to dry out?\n"
            "Options:\n- Yes\n- No",
            "Omar had taken over the task for that day and did not do it. Had he kept his promise, the plant would not "
            "have dried out, and people hold the one who broke the agreement to be the cause. So the answer is Yes.",
        ),
        (
            "How would a typical person answer each of the following questions about causation?\nLia carried a tray of "
            "glasses through the hall. A child ran into her from behind, she lost her balance, and the glasses broke. "
            "Did Lia break the glasses intentionally?\nOptions:\n- Yes\n- No",
            "Lia did not want the glasses to break, and she lost her balance only because somebody ran into her. What "
            "happens by accident is not done intentionally. So the answer is No.",
        ),
        (
            "How would a typical person answer each of the following questions about causation?\nThe alarm of a shop "
            "rings when either of two doors opens after midnight. The night guard must open the east door at one "
            "o'clock and did so, as on every night. At the same moment the owner's son opened the west door, which "
            "nobody may use at night. The alarm rang. Did the owner's son cause the alarm to ring?\n"
            "Options:\n- Yes\n- No",
            "Either door would have been enough. The guard did what he always does, and the son did what was not "
            "allowed. People pick out what is unusual and against the rules as the cause. So the answer is Yes.",
        ),
    ),
    "sports_understanding": (
        (
            'Is the following sentence plausible? "Roger Federer hit a backhand down the line."',
            "Roger Federer is a tennis player. A backhand down the line is part of tennis. So the answer is yes.",
        ),
        (
            'Is the following sentence plausible? "Usain Bolt hit a home run in the third inning."',
            "Usain Bolt is a sprinter. Hitting a home run is part of baseball. So the answer is no.",
        ),
        (
            'Is the following sentence plausible? "Tom Daley was bowled for a duck."',
            "Tom Daley is a diver. Being bowled for a duck is part of cricket. So the answer is no.",
        ),
    ),
    "formal_fallacies": (
        (
            '"Let us see who likes what: First premise: Everyone who likes tea likes honey. Second premise: Everyone '
            'who likes honey likes bread. It follows that everyone who likes tea likes bread."\nIs the argument, given '
            "the explicitly stated premises, deductively valid or invalid?\nOptions:\n- valid \n- invalid",
            "Let T be likes tea, H likes honey, B likes bread. The premises say T -> H and H -> B. Chaining them gives "
            "T -> B, which is the conclusion. So the answer is valid.",
        ),
        (
            '"Some people collect stamps: First premise: Every collector of stamps owns an album. Second premise: Mara '
            'owns an album. Hence, Mara is a collector of stamps."\nIs the argument, given the explicitly stated '
            "premises, deductively valid or invalid?\nOptions:\n- valid \n- invalid",
            "Let C be collects stamps, A owns an album. The premises say C -> A and that A holds of Mara. Nothing says "
            "A -> C, so Mara may own an album without collecting. So the answer is invalid.",
        ),
        (
            '"Consider a choir: First premise: No singer of the choir is a sailor. Second premise: Jon is a sailor. '
            'Consequently, Jon is not a singer of the choir."\nIs the argument, given the explicitly stated premises, '
            "deductively valid or invalid?\nOptions:\n- valid \n- invalid",
            "Let S be singer, A be sailor. The first premise says S -> not A. Jon is A, so he cannot be S, or he would "
            "be not A. That is the conclusion. So the answer is valid.",
        ),
    ),
}
