"""Rules for the place of a pronoun: whether *her* stands before a noun phrase of its own (*her old key*) or not.

They look at the next two or three words, and at the word before where a verb decides (*let her go*, *took her home*).
"""

import re
from typing import NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that do not begin a noun phrase after a determiner: *her the*, *her that*, *her was*.
_NEVER = _words("""
    a an the this that these those some any no every each either neither both all another such enough
    i you he she it we they me him us them himself herself myself yourself itself themselves ourselves
    my your his her hers its our their mine yours theirs someone somebody something anyone anybody anything everyone
    everybody everything nobody nothing none
    who whom whose what which where when why how whether if that whatever whenever wherever whoever however
    and or but nor yet so because although though unless until till while whereas since as than lest
    to of in on at by for from with without about against among amongst between beyond beside besides during into onto
    off out over through throughout toward towards under underneath until up upon via within after before behind below
    beneath above across along alongside around away down despite except like unlike near per inside outside aside
    concerning regarding plus versus amid amidst
    is isn't was wasn't are aren't were weren't be been am has hasn't hadn't had have haven't do does did don't doesn't
    didn't can can't cannot could couldn't should shouldn't would wouldn't won't may must shall
    not never there here where again too also else anyway instead anymore forever together apart alone yesterday today
    tomorrow tonight twice maybe perhaps ahead back-and-forth abroad upstairs downstairs everywhere anywhere somewhere
    otherwise afterwards afterward thereafter altogether indeed please just well thanks thx
    said says told asked went came became began knew gave took wrote seemed sat stood felt thinks knows wants goes comes
    gets makes gives takes seems looks sounds tells asks let lets brought kept heard sent sold taught caught bought wore
    drove ate drank threw chose rode flew forgot
""")

# Words that modify a noun phrase or end one: *her more famous sister*, *loved her more.* The word after them decides.
_MODIFIERS = _words("""
    more most less least better best worse worst much first second third last next then now once still
    already ever always often sometimes almost quite rather somewhat equally later earlier longer right wrong straight
    early late hard fast long close high low clean clear free open dead alive asleep awake pregnant unconscious guilty
    responsible happy unhappy sad angry mad upset sick ill safe naked nervous jealous ready able unable afraid crazy
    uncomfortable comfortable proud sorry speechless breathless helpless hostage captive half double one soon even only
    dry warm cold hot blind deaf drunk sober rich poor famous wealthy unable strong weak stupid smart attractive
    beautiful pretty ugly sexy funny boring annoying interesting suspicious aware unaware due distraught politically
    homeless bankrupt paralyzed paralysed injured wounded bleeding crying sleeping tight
    early daily weekly monthly yearly lovely lonely friendly elderly likely deadly costly holy silly unlikely orderly
    worldly heavenly kindly
""")

_TIMES = _words("""
    night week weekend month year summer winter spring fall autumn monday tuesday wednesday thursday friday saturday
    sunday january february march april june july august september october november december morning afternoon evening
    time
""")

# What ends in -ly and is no adverb, so that nothing has to follow it.
_LY_NOUNS = _words("family belly ally assembly reply supply jelly bully lily fly italy emily sally polly kelly billy")

_BARE_VERBS = _words("""
    be go come get do have make take give call feel look think know see hear say tell speak talk ask understand believe
    realize realise want need try keep let leave stay live die sleep eat drink cry laugh smile sing dance run walk move
    stand sit lie fall rise wait stop start begin finish become seem appear remember forget learn read write pay buy
    sell find lose win meet join enter follow open close choose decide decline accept refuse perform act grow cope deal
    escape avoid break bring build carry pick put pull push reach recover relax return save send show shine solve fit
    spend succeed survive teach throw travel wear wonder worry suffer shoot fight hide hold prepare pass
    achieve develop discover explain express face gain handle heal improve maintain manage overcome pursue regain
    secure settle breathe blush choke
    continue change pack locate reach overthrow train clean cook solve shop fix escape sell earn lift push climb calm
    afford adjust accomplish complete attain cope study graduate
""")

_VERB_NOUNS = _words("""
    look talk need try stay sleep drink cry laugh smile dance run walk move stand fall rise stop start finish win act
    deal escape break pass change call show shoot fight travel worry build cook return hold face gain
""")
_LET = _words("let lets letting")
_CAUSE = _words("make makes made making help helps helped helping have having bid bade dare")
_HAVE = _words("have has had having get gets got getting make made want wants wanted")
_SENSE = _words("""
    see sees saw seen seeing hear hears heard hearing watch watches watched watching notice noticed feel felt
    find finds found finding catch catches caught catching keep keeps kept keeping leave leaves left leaving
    spot spotted remember picture imagine show shows showed shown showing have send sent stop stopped get got
    start started photograph photographed
""")
_ING_NOUNS = _words("""
    wedding evening morning clothing building ring king wing offspring feeling feelings training writing writings
    singing acting painting paintings drawing drawings suffering earring earrings being thing things string spring
    ceiling sibling siblings living beginning beginnings upbringing childbearing reading schooling teaching teachings
    standing hearing meeting meetings finding findings darling remaining missing leading existing surviving opening
    closing ending housing savings belongings surroundings winnings earnings understanding thinking warning calling
    following
""")
# Verbs that take someone somewhere: *took her home*, *called her back*.
_MOVE = _words("""
    take takes took taken taking bring brings brought bringing send sends sent sending drive drives drove driven driving
    walk walks walked walking carry carried carries get gets got gotten getting call calls called calling want wants
    wanted have had see saw follow followed follows drag dragged lead led pull pulled push pushed invite invited
    welcome welcomed welcomes win won pay paid pays text texted write wrote love loved loves bring escort escorted
    escorting accompany accompanied escorts let give gave put fly flew hit order ordered summon summoned chase chased
    ask asked hold held holding trick tricked date dated accept accepted buy
""")
_TITLES = _words("""
    president king queen governor chairman chairwoman chair captain mayor director bishop archbishop general secretary
    minister ambassador commander chief head leader treasurer professor chancellor senator prince princess emperor
    empress duke duchess saint knight executor trustee champion
""")
_TELLING = _words("tell tells told telling inform informed remind reminded assure assured warn warned convinced")
# Verbs and prepositions before a back that is part of a body.
_BODY = _words("""
    turn turned turns turning hurt broke broken break injure injured arch arched arching scratch scratched rub rubbed
    watch watched watching had has strain strained stretch stretched bent wrench wrenched
""")
# Verbs after which a name or a noun is said of someone: *called her Mary*.
_NAMING = _words("""
    call calls called calling name names named naming dub dubs dubbed nickname nicknamed nicknames consider considers
    considered considering deem deemed declare declared elect elected appoint appointed crown crowned proclaim
    proclaimed label labeled labelled brand branded christen christened
""")
_GIVING = _words("""
    give gives gave given giving offer offers offered offering cost costs costing pay pays paid paying owe owes owed
    lend lends lent loan loaned award awarded awards awarding grant grants granted granting earn earns earned earning
    hand
    handed hands teach teaches taught teaching bring brings brought promise promised promises bet wish wished
    buy bought deny denied wish wishes wishing take takes took taken
    bear bears bore borne secure secured securing procure procured
    allow allowed enable enabled
    permit permitted guarantee guaranteed cause caused do did does make made get got
""")
# What is given: after *gave her* these are a second object.
_GIFTS = _words("""
    several much many plenty lots few two three four five six seven eight nine ten eleven twelve twenty thirty fifty
    hundred hundreds thousand thousands money credit advice access permission support encouragement admission trouble
    hope strength power powers confidence breakfast lunch dinner tea coffee water food flowers medicine drugs
    instructions directions information details shelter comfort pleasure pause time space points chocolate candy
    gifts presents cards toys clothes books letters pictures photos chances options reasons attention love respect
    relief joy pain grief harm justice good notice lessons english french music math hell hugs props kudos feedback
    room credits treats luck success happiness
""")
# Nouns that follow the determiner even after a verb that seldom has one there.
_NOUNS = _words("""
    hair guard husband wife kids kid children child son sons daughter daughters mother mom mum father dad parents friend
    friends brother brothers sister sisters dog cat hand hands voice mind emotions feelings team body family name
    arm arms eyes head face work boyfriend girlfriend boss lawyer doctor followers fans anger temper phone mother-in-law
    agent manager uncle aunt cousin partner bluff colleagues staff imagination heart fingers legs feet
""")
# Before the end of a text, where a prompt goes on with a noun more often than not, these take a person.
_PERSON_HEADS = _words("""
    tell told tells ask asked asks about love loves loved hate hates hated miss misses missed marry married meet met see
    saw help helped know knew knows thank thanked kill killed call called let trust trusted hug hugged kiss kissed
    contact contacted email emailed is was are were than thank believe believed
""")
_PREPOSITIONS = _words("of in on at by for from with without about against to into onto upon behind under over through")

_NEXT = re.compile(r"[*_]*\s*[*_]*(?P<mark>[^\w\s])?[*_]*(?P<word>[^\W_]+(?:[-'’][^\W_]+)*)?")
_LAST = re.compile(r"([^\W_]+(?:[-'’][^\W_]+)*)\W*$")
_ALTERNATIVE = re.compile(r"\s*(?:/|,?\s*(?:and/)?or\s)\s*her\b", re.IGNORECASE)  # his or her, him/her
_OPENING = "\"“‘'`<[$£€#"


_OBJECTS = _words("her the a an it me you us them my your our their that him")


class _Next(NamedTuple):
    mark: str
    word: str
    end: int


def is_determiner(before: str, after: str) -> bool:
    """Whether a pronoun between two pieces of text has the place of a determiner.

    Args:
        before: the canonical view of what stands before it.
        after: the same of what stands after it.

    Example:
        >>> is_determiner("She gave ", " her key."), is_determiner("She gave him ", " key.")
        (False, True)
    """
    while alternative := _ALTERNATIVE.match(after):
        after = after[alternative.end() :]  # "his or her key": both are what the last one is
    previous = _last_word(before)
    first = _next(after)
    if not after.strip():
        return previous not in _PERSON_HEADS
    if first.mark and not (first.mark in _OPENING and after[:1].isspace()):
        return False
    if first.mark in "$£€" and first.mark:
        return previous not in _GIVING
    if first.mark in "\"“‘'`" and first.mark and first.word[:1].isupper():
        return previous in _PREPOSITIONS
    return _before_word(previous, first.word, after[first.end :])


def _before_word(previous: str, written: str, rest: str) -> bool:
    word = written.lower().replace("’", "'")
    if not word:
        return False
    if word == "own" or "-" in word:
        return True
    if word in ("last", "next") and _next(rest).word.lower() in _TIMES:
        return previous in _PREPOSITIONS
    if word in _NEVER:
        return False
    if word == "back":
        return previous in _PREPOSITIONS or previous in _BODY or (previous not in _MOVE and _goes_on(rest))
    if word == "home":
        return previous not in _MOVE
    if word == "will":
        return previous in _PREPOSITIONS or previous in _MOVE
    if previous in _LET:
        return word in _NOUNS
    if previous in _CAUSE and word in _BARE_VERBS:
        return False
    if previous in _HAVE and word.endswith("ed"):
        return False
    if word == "many" and _next(rest).word.lower() == "times":
        return False
    if written[:1].isupper() and previous in _TELLING and word not in ("majesty", "highness"):
        return False
    if word.endswith("ed") and _next(rest).word.lower() in _OBJECTS:
        return False
    if previous in _GIVING and (word in _GIFTS or word.isdigit()):
        return False
    if previous in _SENSE and word in _BARE_VERBS - _VERB_NOUNS:
        return False
    if word.endswith("ing") and word not in _ING_NOUNS and previous in _SENSE:
        return False
    if previous in _NAMING and word not in _NOUNS and (written[:1].isupper() or previous.startswith("call")):
        return False
    if previous in _NAMING and word in _TITLES:
        return False
    if word in _MODIFIERS:
        return _goes_on(rest)
    if word == "very" or (word.endswith("ly") and word not in _LY_NOUNS):
        following = _next(rest)  # an adjective: it has to modify something, too
        return following.word.lower() in ("own", "best", "first", "eyes") or (
            _goes_on(rest) and _goes_on(rest[following.end :])
        )
    return True


def _goes_on(rest: str) -> bool:
    """Whether a noun phrase goes on after a word that may be an adverb: *her highly regarded*, not *her highly.*"""
    following = _next(rest)
    word = following.word.lower()
    return bool(word) and (not following.mark or following.mark in _OPENING) and (word == "own" or word not in _NEVER)


def _next(text: str) -> _Next:
    match = _NEXT.match(text)
    assert match is not None  # every part of it may be empty
    return _Next(match["mark"] or "", match["word"] or "", match.end())


def _last_word(text: str) -> str:
    match = _LAST.search(text[-40:])
    return match[1].lower() if match else ""
