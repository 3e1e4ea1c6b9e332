"""The words that twins are made with. Lists of ours, to be edited.

A paraphrase must not move a rating, a topic or an instruction, so no word here praises, blames or bounds; names are
common ones that are no words; and poles are labels whose opposite a "not" turns them into.
"""

from __future__ import annotations

# (word, what stands in its place): one way, because "firm" is a company, but a firm hand is no company hand.
PARAPHRASES = (
    ("film", "movie"), ("movie", "film"), ("films", "movies"), ("movies", "films"), ("kids", "children"),
    ("children", "kids"), ("telephone", "phone"), ("phone", "telephone"), ("photo", "picture"), ("photos", "pictures"),
    ("maybe", "perhaps"), ("perhaps", "maybe"), ("often", "frequently"), ("frequently", "often"), ("nearly", "almost"),
    ("almost", "nearly"), ("begin", "start"), ("begins", "starts"), ("began", "started"), ("started", "began"),
    ("car", "automobile"), ("cars", "automobiles"), ("doctor", "physician"), ("doctors", "physicians"),
    ("physician", "doctor"), ("buy", "purchase"), ("bought", "purchased"), ("large", "big"), ("larger", "bigger"),
    ("largest", "biggest"), ("bigger", "larger"), ("biggest", "largest"), ("entire", "whole"), ("because", "since"),
    ("although", "though"), ("numerous", "many"), ("many", "numerous"), ("couch", "sofa"), ("sofa", "couch"),
    ("journey", "trip"), ("song", "tune"), ("songs", "tunes"), ("author", "writer"), ("company", "firm"),
    ("companies", "firms"), ("someone", "somebody"), ("somebody", "someone"), ("everyone", "everybody"),
    ("everybody", "everyone"), ("anyone", "anybody"), ("anybody", "anyone"), ("explain", "describe"),
    ("describe", "explain"), ("compose", "write"), ("create", "make"), ("choose", "pick"), ("speak", "talk"),
    ("reply", "answer"), ("quick", "fast"), ("afterwards", "later"), ("whilst", "while"), ("amongst", "among"),
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
