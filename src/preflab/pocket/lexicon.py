"""The words of the pocket world: plain tables, one entry a line, from which everything else is generated."""

from collections.abc import Mapping
from typing import Final


def _table(text: str, *fields: str) -> dict[str, dict[str, str]]:
    """Read a table of `name value value ...` entries separated by semicolons or line ends."""
    rows: dict[str, dict[str, str]] = {}
    for entry in text.replace(";", "\n").splitlines():
        words = entry.split()
        if words:
            rows[words[0]] = dict(zip(fields, words[1:], strict=True))
    return rows


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: Final = _words(
    "Ada Alma Anna Arno Basil Bella Ben Berta Bruno Carl Celia Clara Conrad Dora Edgar Edith Elsa Emil Erik Eva Felix "
    "Flora Frank Freya Gina Gregor Greta Hanna Hector Helga Hugo Ida Igor Ines Iris Ivan Jasper Julia Karin Klara Leo "
    "Linda Lukas Mara Marta Max Mila Nina Nora Olga Oscar Otto Paula Petra Quinn Ralph Rosa Rudi Sara Silas Simon "
    "Sofia Stella Tara Theo Tilda Toni Ugo Vera Viktor Wanda Yara Zeno"
)

COUNTRIES: Final = _words("Norland Sudland Estmark Westria Ombria Talvia Kestria Lumia Brevia Ardenia")

TOWNS: Final = _words(
    "Marlow Tilden Osby Varna Quill Harrow Selby Norden Pell Ashford Bramley Corvin Dunmore Elstow Fenwick Galen "
    "Hollow Ivory Juniper Kelso Lorne Mosby Nettle Orford Pomfret Ravel Stroud Thorne Upton Verity Wexley Yarrow "
    "Zennor Larch Medway Rowan"
)

LANDMARKS: Final = _words("bridge tower gate clock statue fountain")
FEATURES: Final = _words("river lake mountain forest desert harbour island valley canyon beach")
PRODUCTS: Final = _words("cheese wool silk honey glass paper salt wine bread pottery leather lace clocks boats")
MATERIALS: Final = _words("wood iron stone glass gold silver copper paper clay wool leather plastic rubber cotton silk")
COLOURS: Final = _words("red blue green yellow black white brown orange purple grey pink golden")
HOBBIES: Final = _words(
    "chess tennis football swimming dancing painting fishing cooking sailing singing running gardening"
)
ROOMS: Final = _words("kitchen garage bedroom garden attic cellar bathroom hall office library shed nursery")
BOXES: Final = _words("box bag basket drawer chest bucket jar case sack crate barrel envelope")

ANIMALS: Final = _table(
    """
    cow mammal grass farm; sheep mammal grass meadow; goat mammal leaves mountain; horse mammal hay farm
    pig mammal roots farm; dog mammal meat house; cat mammal mice house; mouse mammal grain field
    rat mammal grain sewer; rabbit mammal grass burrow; hare mammal grass field; fox mammal mice forest
    wolf mammal meat forest; bear mammal honey cave; deer mammal leaves forest; moose mammal leaves swamp
    lion mammal meat savanna; tiger mammal meat jungle; leopard mammal meat jungle; zebra mammal grass savanna
    giraffe mammal leaves savanna; elephant mammal leaves savanna; monkey mammal fruit jungle
    gorilla mammal leaves jungle; camel mammal thorns desert; kangaroo mammal grass plain; koala mammal leaves tree
    panda mammal bamboo forest; otter mammal fish river; beaver mammal bark river; seal mammal fish coast
    whale mammal plankton ocean; dolphin mammal fish ocean; bat mammal insects cave; squirrel mammal nuts tree
    hedgehog mammal worms garden; badger mammal worms burrow; mole mammal worms burrow; eagle bird fish mountain
    hawk bird mice field; owl bird mice tree; raven bird meat forest; sparrow bird seeds garden
    robin bird worms garden; swan bird weeds lake; duck bird weeds pond; goose bird grass pond; hen bird grain farm
    turkey bird grain farm; parrot bird fruit jungle; penguin bird fish ice; ostrich bird grass savanna
    stork bird frogs chimney; gull bird fish coast; pigeon bird crumbs city; swallow bird insects barn
    salmon fish shrimp river; trout fish insects river; shark fish fish ocean; tuna fish squid ocean
    carp fish weeds pond; eel fish worms river; goldfish fish flakes bowl; herring fish plankton ocean
    bee insect nectar hive; ant insect crumbs hill; wasp insect fruit nest; butterfly insect nectar meadow
    beetle insect bark forest; cricket insect grass field; moth insect wool wardrobe; fly insect sugar kitchen
    snake reptile mice desert; lizard reptile insects desert; turtle reptile weeds coast
    crocodile reptile meat river; tortoise reptile leaves garden; gecko reptile moths wall
    cobra reptile frogs jungle; iguana reptile leaves tree
    """,
    "kind",
    "food",
    "home",
)

FOODS: Final = _table(
    """
    apple fruit red; pear fruit green; plum fruit purple; cherry fruit red; banana fruit yellow; lemon fruit yellow
    mango fruit orange; peach fruit pink; grape fruit purple; melon fruit green; fig fruit brown
    apricot fruit orange; carrot vegetable orange; potato vegetable brown; tomato vegetable red
    onion vegetable white; cabbage vegetable green; spinach vegetable green; pumpkin vegetable orange
    radish vegetable pink; leek vegetable green; turnip vegetable white; garlic vegetable white
    cucumber vegetable green; milk drink white; tea drink brown; coffee drink black; juice drink orange
    water drink blue; cocoa drink brown; cider drink golden; lemonade drink yellow; cake sweet brown
    candy sweet pink; pudding sweet white; chocolate sweet brown; biscuit sweet golden; jam sweet red
    toffee sweet golden; waffle sweet yellow; pepper spice black; cinnamon spice brown; mustard spice yellow
    saffron spice golden; ginger spice yellow; mint spice green; paprika spice red; vanilla spice white
    """,
    "kind",
    "colour",
)

OBJECTS: Final = _table(
    """
    hammer tool iron garage; saw tool iron shed; drill tool iron garage; shovel tool wood shed
    rake tool wood garden; axe tool iron shed; ladder tool wood garage; wrench tool iron garage
    brush tool wood bathroom; needle tool silver bedroom; chair furniture wood kitchen; table furniture wood kitchen
    bed furniture wood bedroom; sofa furniture leather hall; desk furniture wood office
    shelf furniture wood library; bench furniture stone garden; stool furniture wood cellar
    mirror furniture glass bathroom; cupboard furniture wood kitchen; cradle furniture wood nursery
    lamp furniture copper office; hat clothing wool hall; coat clothing wool hall; shirt clothing cotton bedroom
    scarf clothing silk hall; glove clothing leather hall; shoe clothing leather hall; sock clothing wool bedroom
    boot clothing rubber cellar; belt clothing leather bedroom; dress clothing silk bedroom
    apron clothing cotton kitchen; cap clothing cotton attic; piano instrument wood hall
    violin instrument wood library; guitar instrument wood bedroom; drum instrument leather attic
    flute instrument silver library; trumpet instrument copper attic; harp instrument gold hall
    bell instrument copper attic; car vehicle iron garage; bicycle vehicle iron garage; wagon vehicle wood shed
    sled vehicle wood attic; boat vehicle wood shed; scooter vehicle plastic garage; cart vehicle wood garden
    canoe vehicle wood cellar; ball toy rubber garden; doll toy cotton nursery; kite toy paper attic
    puzzle toy paper nursery; robot toy plastic nursery; marble toy glass nursery; balloon toy rubber nursery
    puppet toy wood attic; swing toy wood garden; rattle toy plastic nursery; pot dish clay kitchen
    pan dish iron kitchen; cup dish clay kitchen; plate dish clay kitchen; bowl dish wood kitchen
    spoon dish silver kitchen; fork dish silver kitchen; kettle dish copper kitchen; bottle dish glass cellar
    mug dish clay office; rose flower - garden; tulip flower - garden; lily flower - garden; daisy flower - garden
    violet flower - garden; orchid flower - office; poppy flower - garden; lilac flower - garden; ruby jewel - chest
    pearl jewel - chest; diamond jewel - chest; emerald jewel - chest; opal jewel - chest; ring jewel - chest
    crown jewel - chest; necklace jewel - chest
    """,
    "kind",
    "material",
    "room",
)

PLURALS: Final[Mapping[str, str]] = {
    "mammal": "mammals", "bird": "birds", "fish": "fishes", "insect": "insects", "reptile": "reptiles",
    "fruit": "fruits", "vegetable": "vegetables", "drink": "drinks", "sweet": "sweets", "spice": "spices",
    "tool": "tools", "furniture": "furnitures", "clothing": "clothes", "instrument": "instruments",
    "vehicle": "vehicles", "toy": "toys", "dish": "dishes", "flower": "flowers", "jewel": "jewels",
}  # fmt: skip

JOBS: Final = _table(
    """
    baker bakery oven; teacher school chalk; doctor hospital syringe; farmer field tractor; sailor ship compass
    painter studio canvas; miner mine pickaxe; judge court gavel; priest church candle; barber salon scissors
    butcher market knife; tailor workshop thread; pilot airport airplane; soldier castle sword
    waiter restaurant tray; actor theatre mask; singer opera microphone; plumber basement pipe
    carpenter sawmill chisel; blacksmith forge anvil; florist greenhouse vase; potter kiln wheel; clerk bank stamp
    guard prison torch; scientist laboratory microscope; astronomer observatory telescope
    librarian archive catalogue; fisherman pier net; shepherd pasture stick; jeweller shop loupe
    driver station truck; cook inn stove
    """,
    "place",
    "tool",
)

OPPOSITES: Final = _table(
    """
    hot cold; big small; tall short; fast slow; old young; rich poor; happy sad; clean dirty; light dark; hard soft
    wet dry; full empty; open closed; loud quiet; strong weak; thick thin; wide narrow; deep shallow; sharp blunt
    early late; cheap costly; brave afraid; kind cruel; wise foolish; smooth rough; fresh stale; heavy weightless
    bright dim; calm angry; sweet sour; near far; high low; long brief; new ancient; safe risky; polite rude
    lazy busy; tame wild; simple complex; true false; sick healthy; tight loose; tidy messy; public private
    """,
    "opposite",
)

PET_KINDS: Final = _words("dog cat rabbit parrot goldfish hen goat horse turtle mouse duck pigeon hedgehog gecko")

PLACES_TO_GO: Final = _words(
    "park market school church museum theatre castle harbour bakery library station hospital farm forest beach bridge "
    "garden meadow village palace zoo stadium cinema temple"
)

DOES: Final = _words(
    "finds takes carries buys sells paints cleans hides loses likes holds wants brings keeps drops repairs "
    "borrows throws sees touches draws pushes pulls kicks washes lifts admires breaks steals burns"
)

MOVES: Final = _words(
    "walks runs jumps swims sleeps sings dances waits sits hides plays rests dreams climbs crawls wanders laughs "
    "cries stands works"
)

ADVERBS: Final = _words(
    "slowly quickly quietly loudly happily sadly gently bravely calmly often rarely carefully proudly lazily eagerly "
    "today tonight again alone together"
)

DAYS: Final = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS: Final = _words("January February March April May June July August September October November December")
SEASONS: Final = _words("spring summer autumn winter")

COMPARE: Final[Mapping[str, str]] = dict(
    pair.split("/")
    for pair in _words(
        "taller/tallest older/oldest faster/fastest stronger/strongest richer/richest kinder/kindest louder/loudest "
        "younger/youngest slower/slowest braver/bravest wiser/wisest calmer/calmest"
    )
)
"""Comparative to superlative; the last four are kept for out-of-distribution prompts."""

MYTHS: Final = (
    "bulls hate the colour red",
    "bats are blind",
    "a goldfish forgets everything in three seconds",
    "an ostrich hides its head in the sand",
    "lightning never strikes the same place twice",
    "people use only ten percent of the brain",
    "the moon is made of cheese",
    "the sun moves around the earth",
    "carrots help people see at night",
    "sugar makes children wild",
    "a penny from a tower can kill a person",
    "hair grows faster after a shave",
    "camels keep water in the hump",
    "toads give people warts",
    "wolves howl at the moon",
    "a black cat brings bad luck",
    "chocolate is bad for the skin",
    "mice love cheese most of all",
    "the tongue has a map of tastes",
    "a broken mirror brings seven bad years",
    "snakes drink milk",
    "milk makes snakes strong",
    "cold weather causes the flu",
    "a full moon makes people crazy",
    "spiders are insects",
    "whales are fishes",
    "tomatoes are not fruits",
    "glass is a slow liquid",
    "vikings had horns on the helmet",
    "gum stays in the stomach for years",
    "the great wall is visible from the moon",
    "dogs see only black and white",
)

SURPRISES: Final = (
    "honey never goes bad",
    "a snail can sleep for years",
    "octopuses have three hearts",
    "bananas are berries",
    "sharks are older than trees",
    "the heart of a shrimp is in its head",
    "a day on venus is longer than its year",
    "butterflies taste with the feet",
    "hot water can freeze faster than cold water",
    "koalas have fingerprints",
    "sea stars have no brain",
    "flamingos are born grey",
    "bamboo is a grass",
    "owls cannot move the eyes",
    "an elephant cannot jump",
    "cows have best friends",
    "ants never sleep",
    "a shark can smell blood from far away",
    "turtles breathe through the skin in winter",
    "peanuts grow under the ground",
    "a jellyfish has no bones",
    "lemons float in water",
    "rats laugh when they play",
    "a crocodile swallows stones",
    "male seahorses give birth",
    "polar bears have black skin",
    "trees talk through the roots",
    "a hummingbird can fly backward",
    "penguins give stones as gifts",
    "some frogs survive the frost",
    "crows remember human faces",
    "plants grow better with music",
)
