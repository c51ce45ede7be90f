"""The models that a page offers, and the few of them that are in memory.

Owns the list that the owner of the server configures: nothing outside it is ever loaded, whatever a visitor
asks for. Each request names its model, so that nobody changes it for others. Does not know components.
"""

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from ehmfaces.errors import EHMFacesError, InputError

if TYPE_CHECKING:
    from ehmfaces.model_folder import ModelFacts
    from ehmfaces.pipeline import FacePipeline

DEFAULT = "default"
MODELS_VARIABLE = "EHMFACES_MODELS"


class ModelShelf:
    """Loads models by the names that visitors may use.

    Args:
        model: Folder or Hub id behind "default"; None = EHMFACES_MODEL or the embedded one.
        others: Hub ids that are offered besides; None = those of EHMFACES_MODELS.
        capacity: At most so many stay in memory; the one unused for longest goes first. One that still
            works for somebody goes when that is done.
    """

    def __init__(self, model: str | None, others: "list[str] | None" = None, capacity: int = 2) -> None:
        """Remember the list; nothing is loaded yet.

        Raises:
            InputError: EHMFACES_MODELS holds something that is no Hub id.
        """
        self._model = model
        self._others = _offered() if others is None else others
        self._capacity = max(capacity, 1)
        self._loaded: OrderedDict[str, FacePipeline] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What a visitor may ask for; "default" comes first."""
        return [DEFAULT, *(name for name in self._others if name != self.source(DEFAULT))]

    @property
    def loaded(self) -> list[str]:
        """Names of the models in memory, the one used last at the end."""
        with self._lock:
            return list(self._loaded)

    def source(self, name: str | None) -> str:
        """Return the folder or Hub id behind a name.

        Raises:
            InputError: It is not offered here.
        """
        from ehmfaces.hub import model_name

        if (name or DEFAULT) == DEFAULT:
            return model_name(self._model)
        if name not in self._others:
            offered = ", ".join(self.names)
            raise InputError(f'The model "{str(name)[:80]}" is not offered here. Choose one of: {offered}.')
        return str(name)

    def pipeline(self, name: str | None = DEFAULT) -> "FacePipeline":
        """Return a model, loaded at its first use; others are not held up by that.

        Raises:
            InputError: It is not offered here.
            ModelError: It is not there or is damaged.
        """
        source, key = self.source(name), name or DEFAULT
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                return self._loaded[key]
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            with self._lock:
                if key in self._loaded:
                    return self._loaded[key]  # another thread was faster
            from ehmfaces.hub import load_pipeline

            pipeline = load_pipeline(source)
            with self._lock:
                self._loaded[key] = pipeline
                while len(self._loaded) > self._capacity:
                    self._loaded.popitem(last=False)
            return pipeline

    def facts(self, name: str | None = DEFAULT, fetch: bool = True) -> "ModelFacts | None":
        """Return what a model says about itself; no weights are loaded into memory.

        Args:
            name: As for `pipeline`.
            fetch: Bring it from the Hub when it is not here; else None is returned.

        Raises:
            InputError: It is not offered here.
            ModelError: It cannot be had.
        """
        from dataclasses import replace

        from ehmfaces.model_folder import find_model, read_facts

        source = self.source(name)
        try:
            snapshot = find_model(source, local_files_only=not fetch)
            facts = read_facts(snapshot.folder, source)
        except EHMFacesError:
            if fetch:
                raise
            return None
        return replace(facts, license=facts.license or snapshot.license)

    def name_of(self, model_id: str) -> str | None:
        """Return the name under which a model of a provenance record is offered, or None."""
        for name in self.names:
            facts = self.facts(name, fetch=False)
            if model_id in (name.partition("@")[0], facts.model_id if facts else None):
                return name
        return None


def _offered() -> list[str]:
    """Return the Hub ids of EHMFACES_MODELS and, when there are any, the embedded model."""
    from ehmfaces.model_folder import EMBEDDED_ID
    from ehmfaces.repository import split_name

    ids = [text.strip() for text in os.environ.get(MODELS_VARIABLE, "").split(",") if text.strip()]
    for name in ids:
        try:
            split_name(name)
        except EHMFacesError as error:
            raise InputError(f"{MODELS_VARIABLE}: {error}") from error
    return list(dict.fromkeys([*ids, EMBEDDED_ID])) if ids else []
