"""The words that twins are made with. Lists of ours, to be edited.

A paraphrase must not move a rating, a topic or an instruction, so no word here praises, blames or bounds; names are
common ones that are no words; and poles are labels whose opposite a "not" turns them into.
"""

from __future__ import annotations

PARAPHRASES = (
    ("film", "movie"), ("films", "movies"), ("kids", "children"), ("phone", "telephone"), ("photo", "picture"),
    ("photos", "pictures"), ("maybe", "perhaps"), ("often", "frequently"), ("almost", "nearly"), ("begin", "start"),
    ("begins", "starts"), ("started", "began"), ("car", "automobile"), ("cars", "automobiles"), ("doctor", "physician"),
    ("doctors", "physicians"), ("shop", "store"), ("shops", "stores"), ("buy", "purchase"), ("bought", "purchased"),
    ("big", "large"), ("bigger", "larger"), ("biggest", "largest"), ("quick", "fast"), ("whole", "entire"),
    ("speak", "talk"), ("choose", "pick"), ("because", "since"), ("although", "though"), ("also", "likewise"),
    ("many", "numerous"), ("afternoon", "evening"), ("couch", "sofa"), ("plane", "aircraft"), ("trip", "journey"),
    ("town", "village"), ("road", "street"), ("meal", "dish"), ("song", "tune"), ("author", "writer"),
    ("teacher", "instructor"), ("company", "firm"), ("companies", "firms"), ("job", "position"), ("someone", "somebody"),
    ("everyone", "everybody"), ("anyone", "anybody"), ("describe", "explain"), ("provide", "give"), ("list", "name"),
    ("compose", "write"), ("create", "make"), ("following", "next"), ("sentence", "phrase"), ("answer", "reply"),
)  # fmt: skip

NAMES = (
    "Alice", "Anna", "Ben", "Clara", "Daniel", "David", "Emma", "Eric", "Hannah", "Harry", "Jack", "James", "Jane",
    "John", "Julia", "Kate", "Laura", "Lisa", "Maria", "Martin", "Mary", "Michael", "Paul", "Peter", "Robert", "Sam",
    "Sarah", "Simon", "Sophie", "Susan", "Thomas", "Tom",
)  # fmt: skip

POLES = (
    ("negative", "positive"), ("bad", "good"), ("no", "yes"), ("false", "true"), ("dislike", "like"), ("sad", "happy"),
    ("disagree", "agree"), ("wrong", "right"), ("unsafe", "safe"), ("off", "on"),
)  # fmt: skip
