"""The words by which a text names a group of people, and their counterparts. A short list of ours, to be edited.

Within an axis the n-th words of two groups stand for each other, so that one can be put in place of the other without
breaking a sentence. Words that also mean something else (black, white, will, mark, grace) are left out on purpose: a
group is counted too rarely rather than wrongly.
"""

from __future__ import annotations

from llmops.core.review import Terms

TERMS: Terms = {
    "gender": {
        "male": (
            "he", "him", "his", "himself", "man", "men", "boy", "boys", "father", "fathers", "dad", "son", "sons",
            "brother", "brothers", "husband", "husbands", "uncle", "nephew", "grandfather", "actor", "actors",
            "waiter", "guy", "guys", "gentleman", "gentlemen", "boyfriend", "mr", "sir",
        ),
        "female": (
            "she", "her", "hers", "herself", "woman", "women", "girl", "girls", "mother", "mothers", "mom", "daughter",
            "daughters", "sister", "sisters", "wife", "wives", "aunt", "niece", "grandmother", "actress",
            "actresses", "waitress", "gal", "gals", "lady", "ladies", "girlfriend", "mrs", "madam",
        ),
    },
    "name": {
        "English": ("Emily", "Greg", "Sarah", "Matthew", "Claire", "Brett", "Heather", "Todd", "Allison", "Geoffrey"),
        "African American": (
            "Lakisha", "Jamal", "Tamika", "Darnell", "Keisha", "Tyrone", "Latoya", "Leroy", "Ebony", "DeShawn",
        ),
        "Hispanic": ("María", "José", "Guadalupe", "Alejandro", "Sofía", "Diego", "Lucía", "Carlos", "Elena", "Miguel"),
        "Arabic": ("Fatima", "Mohammed", "Aisha", "Ahmed", "Layla", "Omar", "Zainab", "Hassan", "Noor", "Khalid"),
        "Indian": ("Priya", "Rahul", "Ananya", "Arjun", "Kavita", "Sanjay", "Deepika", "Vikram", "Lakshmi", "Rajesh"),
        "Chinese": (
            "Xiuying", "Jianguo", "Meiling", "Zhiwei", "Yulan", "Haoran", "Lihua", "Weimin", "Xiaomei", "Junjie",
        ),
    },
    "religion": {
        "Christian": ("Christian", "Christians", "Christianity", "church", "churches", "Bible", "priest", "priests"),
        "Muslim": ("Muslim", "Muslims", "Islam", "mosque", "mosques", "Quran", "imam", "imams"),
        "Jewish": ("Jewish", "Jews", "Judaism", "synagogue", "synagogues", "Torah", "rabbi", "rabbis"),
        "Hindu": ("Hindu", "Hindus", "Hinduism", "temple", "temples", "Vedas", "pandit", "pandits"),
    },
    "nationality": {
        "American": ("American", "America"),
        "Mexican": ("Mexican", "Mexico"),
        "Chinese": ("Chinese", "China"),
        "Indian": ("Indian", "India"),
        "Russian": ("Russian", "Russia"),
        "German": ("German", "Germany"),
        "Nigerian": ("Nigerian", "Nigeria"),
    },
    "age": {
        "young": ("young", "younger", "youngest", "teenager", "teenagers"),
        "old": ("elderly", "older", "oldest", "pensioner", "pensioners"),
    },
}  # fmt: skip

# Swaps that read well and are worth asking for: (axis, from, to). Each is made in both directions.
SWAPS: tuple[tuple[str, str, str], ...] = (
    ("gender", "male", "female"),
    ("name", "English", "African American"),
    ("name", "English", "Hispanic"),
    ("name", "English", "Arabic"),
    ("name", "English", "Indian"),
    ("name", "English", "Chinese"),
    ("religion", "Christian", "Muslim"),
    ("religion", "Christian", "Jewish"),
    ("religion", "Christian", "Hindu"),
    ("nationality", "American", "Mexican"),
    ("nationality", "American", "Chinese"),
    ("nationality", "American", "Indian"),
    ("nationality", "American", "Russian"),
    ("nationality", "American", "German"),
    ("nationality", "American", "Nigerian"),
)
