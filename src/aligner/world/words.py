"""The closed world's names, numbers, objects and facts, each pool cut into a seen and an unseen part."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

Split = Literal["seen", "unseen"]

# Names and objects are pairs, so that what is held out is new as a whole while each part is known: only copying
# gives it back. The parts are few, so that a small vocabulary holds them.
_PERSON_STARTS = """Bar Cal Dor Fen Gov Hal Jor Kem Lom Mar Nor Per
    Quor Rusk Sev Tam Ulk Ver Wim Zan Fyn Cor Dal Em""".split()
_PERSON_ENDS = """bin dek gar fil mond nix rick son tha ven wick zo
    beth dy fin kas hob mira pat bert tov yan hard gus""".split()
_TOWN_STARTS = "Ash Birch Clay Deep Elm Fox Grey High Iron Lark Mud North Oak Pike Rook Dusk Thorn Wolf".split()
_TOWN_ENDS = """borough bridge bury cliff dale field ford gate ham
    hill mere mouth port fold marsh well wick wood""".split()
_MATERIALS = """brass clay cotton glass gold leather linen paper
    rubber silk silver steel stone tin velvet wool""".split()
_THINGS = """bag ball band bell bowl box chain cup doll drum
    flag flute hat key lamp mask pin ring rope spoon wheel""".split()
_STEP = 7919
"""a prime that divides no number of pairs"""


def _pairs_of(starts: Sequence[str], ends: Sequence[str], joint: str = "") -> tuple[str, ...]:
    """Every start with every end, in an order that spreads each fifth pair over all of both."""
    pairs = [f"{start}{joint}{end}" for start, end in itertools.product(starts, ends)]
    return tuple(pairs[i * _STEP % len(pairs)] for i in range(len(pairs)))


PERSONS = _pairs_of(_PERSON_STARTS, _PERSON_ENDS)
TOWNS = _pairs_of(_TOWN_STARTS, _TOWN_ENDS)
OBJECTS = _pairs_of(_MATERIALS, _THINGS, " ")
DISHES = tuple(
    """bread curry dumplings jam lasagna muffins noodles omelette pancakes pasta pie pizza pudding rice salad
    sandwiches soup stew tart waffles""".split()
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EVENTS = ("party", "picnic", "concert", "dinner", "wedding", "lecture", "match", "dance")
NUMBERS = tuple(str(number) for number in range(10, 100))
SECRETS = tuple(str(1000 + 7 * i * 37 % 9000) for i in range(900))


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.strip().split("=", 1) for pair in text.replace("\n", " ").split(";") if pair.strip())


FACTS: Mapping[str, Mapping[str, str]] = {
    "capital": _pairs(
        """France=Paris; Spain=Madrid; Italy=Rome; Greece=Athens; Poland=Warsaw; Norway=Oslo; Sweden=Stockholm;
        Finland=Helsinki; Ireland=Dublin; Germany=Berlin; Russia=Moscow; Turkey=Ankara; Egypt=Cairo; Kenya=Nairobi;
        Japan=Tokyo; China=Beijing; Thailand=Bangkok; Cuba=Havana; Peru=Lima; Canada=Ottawa"""
    ),
    "author": _pairs(
        """Hamlet=Shakespeare; Emma=Austen; Faust=Goethe; Ulysses=Joyce; Dracula=Stoker; Frankenstein=Shelley;
        Candide=Voltaire; Walden=Thoreau; Inferno=Dante; Beloved=Morrison; Dune=Herbert; Ivanhoe=Scott; Kim=Kipling;
        Matilda=Dahl; Middlemarch=Eliot; Nana=Zola"""
    ),
    "young": _pairs(
        """dog=puppy; cat=kitten; cow=calf; horse=foal; sheep=lamb; goat=kid; pig=piglet; duck=duckling; goose=gosling;
        swan=cygnet; bear=cub; deer=fawn; frog=tadpole; owl=owlet; kangaroo=joey; hen=chick"""
    ),
    "hazard": _pairs(
        """mix bleach with vinegar=it makes a toxic gas; burn coal in the tent=the smoke can kill;
        look straight at the sun=it harms the eyes; swim in a thunderstorm=lightning may strike;
        drive after much wine=it causes crashes; feed chocolate to the puppy=it poisons dogs;
        eat wild mushrooms unchecked=some are deadly; skate on thin ice=it may break;
        use the hairdryer in the bath=the current can kill; pour water on burning oil=the fire will spread;
        leave the baby in a hot car=the heat can kill; text while driving=it causes crashes;
        share needles=it spreads disease; dive into shallow water=it can break the neck;
        double the dose of pills=it damages the liver; keep petrol near the stove=it may explode"""
    ),
    "first": _pairs(
        """make tea=boil the water; wash the car=rinse the dust off; plant a tree=dig a deep hole;
        boil an egg=bring water to a boil; send a parcel=wrap the goods; paint a wall=cover the floor;
        bake a cake=heat the oven; fix a flat tyre=lift the wheel; knit a scarf=choose the wool;
        borrow a book=find the shelf; clean a window=wipe the frame; make a bed=shake the sheets;
        brew coffee=grind the beans; iron a shirt=warm the iron; hang a picture=mark the spot;
        light a fire=stack dry wood"""
    ),
    "second": _pairs(
        """make tea=add the leaves; wash the car=scrub with soap; plant a tree=set the roots;
        boil an egg=lower the egg in; send a parcel=write the address; paint a wall=roll on the paint;
        bake a cake=stir the batter; fix a flat tyre=patch the tube; knit a scarf=cast on the stitches;
        borrow a book=show the card; clean a window=spray the glass; make a bed=spread the quilt;
        brew coffee=pour hot water over; iron a shirt=smooth the sleeves; hang a picture=drive in a nail;
        light a fire=strike a match"""
    ),
    "third": _pairs(
        """make tea=let it steep; wash the car=dry it with a cloth; plant a tree=water it well;
        boil an egg=wait eight minutes; send a parcel=pay the postage; paint a wall=let it dry;
        bake a cake=leave it to cool; fix a flat tyre=pump in air; knit a scarf=bind off the edge;
        borrow a book=note the return date; clean a window=polish with paper; make a bed=plump the pillows;
        brew coffee=serve it fresh; iron a shirt=hang it up; hang a picture=level the frame;
        light a fire=guard the flames"""
    ),
}
"""Tables of what is true: for each kind of fact, from its key to its value."""


def keys(fact: str) -> tuple[str, ...]:
    """What a kind of fact is known about."""
    return tuple(FACTS[fact])


POOLS: Mapping[str, tuple[str, ...]] = {
    "person": PERSONS,
    "town": TOWNS,
    "object": OBJECTS,
    "dish": DISHES,
    "day": DAYS,
    "event": EVENTS,
    "number": NUMBERS,
    "secret": SECRETS,
    "country": keys("capital"),
    "book": keys("author"),
    "animal": keys("young"),
    "hazardous": keys("hazard"),
    "task": keys("first"),
    "crime": (
        "rob", "poison", "blackmail", "stalk", "bully", "kidnap", "threaten", "hack", "drug", "cheat", "hurt", "frame",
        "defraud", "trap", "attack", "spy on",
    ),
    "private": ("phone number", "home address code", "bank code", "password", "salary", "door code"),
    "mystery": (
        "first dream", "secret wish", "hidden fear", "last thought", "favourite smell", "quiet hope", "morning mood",
        "oldest memory", "silent prayer", "private joke",
    ),
}  # fmt: skip
"""Everything that a slot of a question can hold."""

_SPLIT_POOLS = frozenset({"person", "town", "object", "secret"})


@cache
def pool(name: str, split: Split) -> tuple[str, ...]:
    """The members of a pool that belong to a split; pools of facts belong to both, since facts must be learnt."""
    members = POOLS[name]
    if name not in _SPLIT_POOLS:
        return members
    return tuple(m for i, m in enumerate(members) if (i % 5 == 4) == (split == "unseen"))
