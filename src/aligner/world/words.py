"""The closed world's names, numbers, objects and facts, each pool cut into a seen and an unseen part."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

Split = Literal["seen", "unseen"]

_ONSETS = "b d f g k l m n p r s t v z".split()
_VOWELS = "a e i o u".split()
_CODAS = "l n r s x".split()


def _invented(ending: Sequence[str], count: int, step: int) -> tuple[str, ...]:
    """Names of two syllables and an ending, spread evenly over all that the syllables allow."""
    syllables = [onset + vowel for onset in _ONSETS for vowel in _VOWELS]
    names = [a + b + c for a, b, c in itertools.product(syllables, syllables, ending) if a != b]
    return tuple(names[i * step % len(names)].capitalize() for i in range(count))


PERSONS = _invented(_CODAS, 700, 7919)
TOWNS = _invented(["burg", "ford", "ham", "ton"], 300, 6007)
OBJECTS = tuple(
    """basket bell belt blanket bottle bowl box brush bucket button candle cap chain chair clock coat
    comb compass cup drum fan flag flute fork glove globe hammer harp hat helmet hook jacket jar kettle key kite knife
    ladder lamp lens letter map mask mirror mug needle net notebook paddle pan pen pencil pillow pin pipe plate pot
    purse quilt radio rake ring rope rug ruler saddle saw scarf shawl shirt shoe shovel sock spade spoon stamp stool
    sweater table tent ticket torch towel tray trumpet vase violin wallet watch whistle wig wrench""".split()
)
DISHES = tuple(
    """bread curry dumplings jam lasagna muffins noodles omelette pancakes pasta pie pizza pudding rice salad
    sandwiches soup stew tart waffles""".split()
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EVENTS = ("party", "picnic", "concert", "dinner", "wedding", "lecture", "match", "dance")
TIMES = tuple(f"{hour}:{minute}" for hour in range(10, 24) for minute in range(10, 60, 5))
NUMBERS = tuple(str(number) for number in range(10, 100))
SECRETS = tuple(str(1000 + 7 * i * 37 % 9000) for i in range(900))

_UNITS = "zero one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def _in_words(number: int) -> str:
    if number < 20:
        return _TEENS[number - 10]
    tens = _TENS[number // 10 - 2]
    return f"{tens}-{_UNITS[number % 10]}" if number % 10 else tens


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.strip().split("=", 1) for pair in text.replace("\n", " ").split(";") if pair.strip())


FACTS: Mapping[str, Mapping[str, str]] = {
    "capital": _pairs(
        """France=Paris; Spain=Madrid; Italy=Rome; Portugal=Lisbon; Greece=Athens; Poland=Warsaw; Austria=Vienna;
        Hungary=Budapest; Norway=Oslo; Sweden=Stockholm; Finland=Helsinki; Denmark=Copenhagen; Ireland=Dublin;
        Belgium=Brussels; Germany=Berlin; Russia=Moscow; Ukraine=Kyiv; Turkey=Ankara; Egypt=Cairo; Kenya=Nairobi;
        Ghana=Accra; Japan=Tokyo; China=Beijing; Thailand=Bangkok; Vietnam=Hanoi; Nepal=Kathmandu; Cuba=Havana;
        Peru=Lima; Chile=Santiago; Canada=Ottawa; Australia=Canberra; Morocco=Rabat"""
    ),
    "author": _pairs(
        """Hamlet=Shakespeare; Emma=Austen; Faust=Goethe; Ulysses=Joyce; Dracula=Stoker; Frankenstein=Shelley;
        Candide=Voltaire; Walden=Thoreau; Inferno=Dante; Beloved=Morrison; Dune=Herbert;
        Emile=Rousseau; Germinal=Zola; Ivanhoe=Scott; Kim=Kipling; Matilda=Dahl; Middlemarch=Eliot;
        Persuasion=Austen; Macbeth=Shakespeare; Othello=Shakespeare; Nana=Zola"""
    ),
    "young": _pairs(
        """dog=puppy; cat=kitten; cow=calf; horse=foal; sheep=lamb; goat=kid; pig=piglet; duck=duckling;
        goose=gosling; swan=cygnet; bear=cub; deer=fawn; frog=tadpole; eagle=eaglet; owl=owlet; kangaroo=joey;
        hare=leveret; eel=elver; salmon=smolt; hen=chick"""
    ),
    "words": {number: _in_words(int(number)) for number in NUMBERS},
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
    return tuple(FACTS[fact])


POOLS: Mapping[str, tuple[str, ...]] = {
    "person": PERSONS,
    "town": TOWNS,
    "object": OBJECTS,
    "dish": DISHES,
    "day": DAYS,
    "event": EVENTS,
    "time": TIMES,
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

_SPLIT_POOLS = frozenset({"person", "town", "object", "time", "secret"})


@cache
def pool(name: str, split: Split) -> tuple[str, ...]:
    """The members of a pool that belong to a split; pools of facts belong to both, since facts must be learnt."""
    members = POOLS[name]
    if name not in _SPLIT_POOLS:
        return members
    return tuple(m for i, m in enumerate(members) if (i % 5 == 4) == (split == "unseen"))
