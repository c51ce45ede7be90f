"""What the titles of a roster's columns mean, in several languages.

Owns one table from titles to fields, and the words for players and staff in cells. Does not know where
a column stands, what it holds or how a file is stored.
"""

import re
import unicodedata
from typing import Final

from ehmfaces.roster.entry import Role

_TITLES: Final[dict[str, tuple[str, ...]]] = {
    "first_name": (
        "first name", "firstname", "first", "forename", "given name", "given names", "christian name",
        "förnamn", "tilltalsnamn", "etunimi", "etunimet", "křestní jméno", "krstné meno", "vorname",
        "rufname", "prénom", "prénoms", "fornavn", "imię", "keresztnév", "utónév", "nome proprio",
        "eesnimi", "vārds", "vardas",
    ),
    "last_name": (
        "second name", "last name", "lastname", "last", "surname", "family name", "efternamn", "sukunimi",
        "příjmení", "priezvisko", "nachname", "familienname", "zuname", "nom de famille", "etternavn",
        "efternavn", "nazwisko", "vezetéknév", "családnév", "cognome", "perekonnanimi", "uzvārds",
        "pavardė", "фамилия", "apellido", "apellidos", "prezime",
    ),
    "name": (
        "name", "full name", "fullname", "player", "player name", "playername", "namn", "nimi", "jméno",
        "meno", "nom", "navn", "nombre", "имя", "фио", "spieler", "pelaaja", "spelare", "hráč", "joueur",
        "игрок", "nome", "név", "ime", "person", "staff name", "nom complet", "vollständiger name",
    ),
    "birth_date": (
        "date of birth", "dob", "d o b", "birth date", "birthdate", "birthday", "born", "birth", "bdate",
        "date born", "födelsedatum", "född", "födelsedag", "syntymäaika", "syntymäpäivä", "synt aika",
        "datum narození", "narozen", "narození", "dátum narodenia", "narodený", "geburtsdatum",
        "geburtstag", "geboren", "geb", "geb datum", "date de naissance", "né le", "naissance",
        "дата рождения", "родился", "д р", "др", "fødselsdato", "født", "data urodzenia",
        "születési dátum", "data di nascita", "fecha de nacimiento", "sünniaeg", "dzimšanas datums",
        "gimimo data", "datum rojstva", "datum rođenja",
    ),
    "nation": (
        "nation", "nationality", "nat", "country", "nationalitet", "land", "kansallisuus", "kansalaisuus",
        "maa", "národnost", "státní příslušnost", "stát", "země", "národnosť", "krajina", "nationalität",
        "nationalité", "pays", "национальность", "гражданство", "страна", "nasjonalitet", "narodowość",
        "kraj", "nemzetiség", "nazionalità", "nacionalidad", "citizenship", "1st nation", "nationality 1",
    ),
    "second_nation": (
        "second nation", "2nd nation", "2nd nat", "second nationality", "2nd nationality",
        "nationality 2", "dual nationality", "andra nationalitet", "toinen kansallisuus",
        "druhá národnost", "zweite nationalität", "zweitnationalität", "deuxième nationalité",
        "второе гражданство",
    ),
    "classification": (
        "classification", "class", "person type", "type", "category", "staff type", "klassificering",
        "klassifikation", "luokitus", "klasifikace", "typ", "klassifizierung", "classement",
        "классификация", "role type", "player non player", "player or staff",
    ),
}  # fmt: skip
_NEITHER_FIRST_NOR_LAST = (
    "name",
    "namn",
    "nimi",
    "jmeno",
    "meno",
    "nom",
    "navn",
    "nombre",
    "имя",
    "nome",
    "ime",
)
_STAFF_WORDS: Final = frozenset(
    (
        "non player", "nonplayer", "staff", "coach", "head coach", "assistant coach", "manager", "scout",
        "physio", "trainer", "chairman", "president", "owner", "director", "official", "referee",
        "general manager", "gm", "icke spelare", "ledare", "tranare", "valmentaja", "ei pelaaja",
        "trener", "nehrac", "nichtspieler", "kein spieler", "entraineur", "non joueur", "не игрок",
        "тренер", "ikke spiller",
    )
)  # fmt: skip
_PLAYER_WORDS: Final = frozenset(
    (
        "player", "spelare", "pelaaja", "hrac", "spieler", "joueur", "игрок", "spiller", "goaltender",
        "goalie", "defenceman", "defenseman", "forward", "skater", "zawodnik", "jatekos", "player coach",
    )
)  # fmt: skip


def fold_title(text: str) -> str:
    """Return a title without case, accents and punctuation.

    Example:
        >>> fold_title(" Date_of-Birth: ")
        'date of birth'
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.findall(r"[^\W_]+", plain.replace("ł", "l").replace("ø", "o")))


_FIELD_OF_TITLE: Final = {fold_title(title): name for name, titles in _TITLES.items() for title in titles}


def field_of_title(title: str) -> str | None:
    """Return the field that a title names, or None.

    Example:
        >>> field_of_title("Date Of Birth"), field_of_title("Birth Town")
        ('birth_date', None)
    """
    folded = fold_title(title[:100])
    without_hint = fold_title(re.sub(r"[(\[].*", "", title[:100]))
    return _FIELD_OF_TITLE.get(folded) or _FIELD_OF_TITLE.get(without_hint)


def is_plain_name_title(title: str) -> bool:
    """Tell whether a title says just "name", which beside a first name means the last name."""
    return fold_title(title) in _NEITHER_FIRST_NOR_LAST


def role_of_classification(text: str) -> Role | None:
    """Return the role that a cell names; None = not understood. Both a player and staff is a player.

    Example:
        >>> role_of_classification("Player/Non-Player"), role_of_classification("Head Coach")
        ('player', 'staff')
    """
    parts = [fold_title(part) for part in re.split(r"[/,;&+]", text)] or [""]
    if any(part in _PLAYER_WORDS for part in parts):
        return "player"
    if any(part in _STAFF_WORDS for part in parts):
        return "staff"
    return None
