"""A model repository on the Hub: its files down, checked and resumable, and up in one commit.

Owns ids and revisions, which files are fetched, the size limit, and the sentence for everything that can
go wrong on the way. JSON and safetensors only, never pickles. Does not know what a generator is.

Weights are fetched here and not by the Hub's client, which keeps no half file and compares no hash; they
then lie in the client's own cache, where every other program finds them.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehmfaces.errors import InputError, ModelError, UnsupportedModelError

DEFAULT_MAX_GB = 2.0
MAX_GB_VARIABLE = "EHMFACES_MAX_MODEL_GB"
_WEIGHTS = "diffusion_pytorch_model"
_WEIGHT_FILE = re.compile(_WEIGHTS + r"(-\d+-of-\d+)?\.safetensors")
_OPTIONAL = ("model_index.json", "directions.safetensors")
_JSON_FILES = ("config.json", f"{_WEIGHTS}.safetensors.index.json")
_PICKLES = (".pkl", ".pt", ".pth", ".ckpt", ".bin")
_REVISION = re.compile(r"(?!.*\.\.)\w[\w./-]*")
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Snapshot:
    """A repository's model files on this machine.

    Attributes:
        folder: Where they are.
        license: What the repository's card says, when the Hub was asked; otherwise None.
    """

    folder: Path
    license: str | None = None


@dataclass(frozen=True)
class _File:
    """A file of a repository: its size in bytes and its hash (SHA-256, or git's SHA-1 for small files)."""

    name: str
    size: int
    digest: str


def split_name(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """Return repository id and revision of "org/name" or "org/name@revision".

    Raises:
        ModelError: It is no id, or two revisions are given.
    """
    repo_id, at, inside = name.partition("@")
    if at and revision and inside != revision:
        raise ModelError(f'"{name}" already names the revision "{inside}". Leave out "{revision}".')
    wanted = inside if at else revision
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id) or ".." in repo_id or "--" in repo_id:
        raise ModelError(
            f'"{name}" is no folder here and no Hub id. Give a folder, or an id like org/name@revision.'
        )
    if wanted is not None and not _REVISION.fullmatch(wanted):
        raise ModelError(f'"{wanted}" is no revision. Give a branch, a tag or a commit.')
    return repo_id, wanted


def fetch(
    repo_id: str,
    revision: str | None = None,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    check_folder: Callable[[Path], object] = lambda folder: None,
) -> Snapshot:
    """Bring a repository's model files into the Hub's cache; what is there already is not fetched again.

    Args:
        repo_id: Like "org/name".
        revision: Branch, tag or commit; None = "main".
        token: For a private repository; None = HF_TOKEN or the stored one.
        cache_dir: The Hub's cache; None = its usual place.
        local_files_only: Ask nobody, take what the cache holds.
        force_download: Fetch the weights again.
        check_folder: Called with a folder that holds the JSON files, before any weights are fetched.

    Raises:
        ModelError: The files cannot be had; the text says why.
        UnsupportedModelError: The repository holds something else.
    """
    from huggingface_hub import HfApi

    with hub_sentences(repo_id, revision, token):
        api = HfApi(token=token)
        wanted = api.resolve_revision(
            repo_id, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only
        )
        cached = None if force_download else _cached(repo_id, wanted, cache_dir)
        if cached is not None or local_files_only:
            return Snapshot(cached or _cached_or_raise(repo_id, wanted, cache_dir))
        info = api.model_info(repo_id, revision=wanted.resolved, files_metadata=True)
        files = _choose_files(repo_id, info.siblings or [])
        json_files = [file for file in files if file.name.endswith(".json")]
        weights = [file for file in files if file not in json_files]
        storage = _Storage(repo_id, wanted.resolved, token, cache_dir)
        storage.check_room(weights)
        check_folder(storage.link(json_files, wanted))
        for file in weights:
            storage.fetch(file, force_download)
        return Snapshot(storage.link(files, wanted), stated_license(info.card_data))


def stated_license(card: Any) -> str | None:
    """Return the licence in the data of a model card, or None when it says nothing or "unknown"."""
    name = card.get("license") if card else None
    return name if isinstance(name, str) and name != "unknown" else None


def _cached(repo_id: str, revision: str, cache_dir: str | Path | None) -> Path | None:
    """Return the folder of a revision that is wholly in the cache, or None."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _cached_or_raise(repo_id, revision, cache_dir)
    except LocalEntryNotFoundError:
        return None


def _cached_or_raise(repo_id: str, revision: str, cache_dir: str | Path | None) -> Path:
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder = Path(
        snapshot_download(
            repo_id, revision=revision, cache_dir=cache_dir, local_files_only=True, allow_patterns=[]
        )
    )
    tree = get_cached_repo_tree(repo_id, revision=revision, cache_dir=cache_dir)
    for file in _choose_files(repo_id, [_as_sibling(entry) for entry in tree]):
        path = folder / file.name
        if not path.is_file() or path.stat().st_size != file.size:
            raise LocalEntryNotFoundError(f"{file.name} is not in the cache")
    return folder


def _as_sibling(entry: Any) -> Any:
    """Give an entry of a file tree the names that `model_info` uses."""
    entry.rfilename = entry.path
    return entry


def _choose_files(repo_id: str, siblings: Sequence[Any]) -> list[_File]:
    """Return the files of a model: the index, one config and its safetensors.

    Raises:
        UnsupportedModelError: There is no such model in the repository.
    """
    names = {sibling.rfilename for sibling in siblings}
    prefix = "generator/" if "generator/config.json" in names else ""
    wanted = {*_OPTIONAL, *(prefix + name for name in _JSON_FILES)}
    weights = {
        name for name in names if name.startswith(prefix) and _WEIGHT_FILE.fullmatch(name[len(prefix) :])
    }
    if f"{prefix}config.json" not in names or not weights:
        raise UnsupportedModelError(_why_no_model(repo_id, names))
    return [_file_of(sibling) for sibling in siblings if sibling.rfilename in wanted | weights]


def _file_of(sibling: Any) -> _File:
    digest = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
    return _File(sibling.rfilename, int(sibling.size), digest)


def _why_no_model(repo_id: str, names: set[str]) -> str:
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    others = sorted({name.split("/")[0] for name in names if name.endswith("/config.json")})
    if pickles and not any(name.endswith(".safetensors") for name in names):
        return (
            f'"{repo_id}" holds its weights as pickles ({", ".join(pickles[:3])}), which can run code and '
            "are never loaded. Download the file yourself and turn it into a model with: "
            "ehmfaces model import FILE --out DIR"
        )
    if "model_index.json" in names and others:
        return (
            f'"{repo_id}" is a diffusers pipeline of another kind ({", ".join(others[:5])}), no face '
            "generator. Give a model that ehmfaces saved."
        )
    return (
        f'"{repo_id}" holds no generator: config.json and {_WEIGHTS}.safetensors are missing. '
        "Give a model that ehmfaces saved."
    )


def max_bytes() -> int:
    """Return the most that one model may weigh: EHMFACES_MAX_MODEL_GB, by default 2.

    Raises:
        InputError: The variable is no number above 0.
    """
    text = os.environ.get(MAX_GB_VARIABLE) or str(DEFAULT_MAX_GB)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e6:
        raise InputError(f'{MAX_GB_VARIABLE}="{text}" is no size. Give a number of gigabytes, like 4.')
    return int(gigabytes * 1e9)


class _Storage:
    """The part of the Hub's cache that belongs to one commit of one repository."""

    def __init__(self, repo_id: str, commit: str, token: str | None, cache_dir: str | Path | None) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self._repo_id, self._commit, self._token = repo_id, commit, token
        self._cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser().resolve()
        name = repo_folder_name(repo_id=repo_id, repo_type="model")
        self._blobs, self._locks = self._cache / name / "blobs", self._cache / ".locks" / name

    def check_room(self, files: Sequence[_File]) -> None:
        """Raise when the files are larger than the limit or than what the disk has left."""
        total, limit = sum(file.size for file in files), max_bytes()
        if total > limit:
            raise ModelError(
                f'"{self._repo_id}" weighs {total / 1e9:.2f} GB; at most {limit / 1e9:g} GB are fetched. '
                f"Set {MAX_GB_VARIABLE} to allow more."
            )
        missing = sum(file.size for file in files if not (self._blobs / file.digest).exists())
        place = next(path for path in (self._cache, *self._cache.parents) if path.is_dir())
        free = shutil.disk_usage(place).free
        if missing > free:
            raise ModelError(
                f'"{self._repo_id}" needs {missing / 1e6:.0f} MB, and {place} has {free / 1e6:.0f} MB left. '
                "Make room, or set HF_HOME to another disk."
            )

    def link(self, files: Sequence[_File], revision: str) -> Path:
        """Let the Hub's client put these files into its snapshot folder; it fetches what is small."""
        from huggingface_hub import snapshot_download

        names = [file.name for file in files]
        folder = snapshot_download(
            self._repo_id, revision=revision, cache_dir=self._cache, token=self._token, allow_patterns=names
        )
        return Path(folder)

    def fetch(self, file: _File, again: bool) -> None:
        """Bring one file into the cache, going on where an earlier try stopped."""
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        blob = self._blobs / file.digest
        partial = self._blobs / f"{file.digest}.ehmfaces.partial"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._locks.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(self._locks / f"{file.digest}.lock"):
            if again or (blob.exists() and blob.stat().st_size != file.size):
                blob.unlink(missing_ok=True)
            if not blob.exists():
                self._fetch_checked(file, partial)
                partial.replace(blob)

    def _fetch_checked(self, file: _File, partial: Path) -> None:
        """Fill the partial file; a wrong one that was begun earlier is fetched anew once."""
        began_earlier = partial.exists()
        self._append(file, partial)
        if began_earlier and _digest(partial, file.digest) != file.digest:
            partial.unlink()
            self._append(file, partial)
        if _digest(partial, file.digest) != file.digest:
            partial.unlink()
            raise ModelError(
                f'{file.name} of "{self._repo_id}" arrived damaged: its hash is not that of the Hub. '
                "Nothing of it was kept. Try again, or tell the owner."
            )

    def _append(self, file: _File, partial: Path) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        if partial.exists() and partial.stat().st_size > file.size:
            partial.unlink()
        url = hf_hub_url(self._repo_id, file.name, revision=self._commit)
        with partial.open("ab") as target:
            http_get(
                url,
                target,
                resume_size=target.tell(),
                headers=build_hf_headers(token=self._token),
                expected_size=file.size,
                displayed_filename=file.name,
            )


def _digest(path: Path, like: str) -> str:
    """Return the hash of a file, of the kind that `like` is: SHA-256, or git's SHA-1."""
    is_sha256 = len(like) == 64
    digest = hashlib.sha256() if is_sha256 else hashlib.sha1(usedforsecurity=False)
    if not is_sha256:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
) -> str:
    """Put all files of a folder into a repository in one commit; both are made where they are missing.

    Args:
        folder: What to upload, as it is.
        repo_id: Like "org/name".
        token: Must allow writing; None = HF_TOKEN or the stored one.
        private: For a new repository; None = the account's default.
        revision: A branch; None = "main".
        commit_message: One line.

    Returns:
        The address of the commit.

    Raises:
        ModelError: The Hub does not take it; the text says why.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    repo_id, revision = split_name(repo_id, revision)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with hub_sentences(repo_id, revision, token):
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]
        commit = api.create_commit(
            repo_id, operations, commit_message=commit_message or "Upload model", revision=revision
        )
        return str(commit.commit_url)


@contextmanager
def hub_sentences(repo_id: str, revision: str | None = None, token: str | None = None) -> Iterator[None]:
    """Turn what the Hub, the network and the disk say into one sentence."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RevisionResolutionError

    try:
        yield
    except HFValidationError as error:
        raise ModelError(f'"{repo_id}" is no Hub id. Give one like org/name@revision.') from error
    except HfHubHTTPError as error:
        raise ModelError(_answer_sentence(error, repo_id, revision, token)) from error
    except (httpx2.HTTPError, OSError, RuntimeError) as error:
        raise ModelError(_trouble_sentence(_root_of(error), repo_id)) from error
    except RevisionResolutionError as error:
        raise ModelError(_away(repo_id)) from error


def _root_of(error: BaseException) -> BaseException:
    """Return what an upload failed of; the client wraps it in a RuntimeError."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _answer_sentence(error: Any, repo_id: str, revision: str | None, token: str | None) -> str:
    """Return the sentence for an answer that the Hub gave."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f'"{repo_id}" asks for consent: accept its terms on the Hub and set HF_TOKEN.'
    if isinstance(error, RevisionNotFoundError):
        return f'"{repo_id}" has no revision "{revision or "main"}". Leave it out for the newest.'
    if "Invalid credentials" in str(error.response.headers.get("X-Error-Message")):
        return "The Hub does not know this token. Set HF_TOKEN to a valid one, or unset it for public models."
    if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
        kind = _other_kind(repo_id, token)
        if kind:
            return f'"{repo_id}" is a {kind} on the Hub, no model. Give a model.'
        return f'The Hub shows no model "{repo_id}": check the name, or set HF_TOKEN if it is private.'
    if status == 403:
        return f'The Hub refuses "{repo_id}" with this token. Use one that may read it, or write to push.'
    if status == 429:
        return "The Hub gets too many requests from here. Wait some minutes, or set HF_TOKEN."
    if status >= 500:
        return f'The Hub has trouble ({status}), and "{repo_id}" is not whole in the cache. Try again later.'
    return f'The Hub refuses "{repo_id}" ({status}): {str(error).strip().splitlines()[-1][:200]}'


def _other_kind(repo_id: str, token: str | None) -> str | None:
    """Tell whether an id is that of a data set or a Space."""
    from huggingface_hub import HfApi

    with suppress(Exception):
        for kind, words in (("dataset", "data set"), ("space", "Space")):
            if HfApi(token=token).repo_exists(repo_id, repo_type=kind):
                return words
    return None


def _trouble_sentence(error: BaseException, repo_id: str) -> str:
    """Return the sentence for what the network or the disk did."""
    import httpx2
    from huggingface_hub.errors import LocalEntryNotFoundError

    number = getattr(error, "errno", None)
    if number in _FULL_DISK:
        return f'There is no space left for "{repo_id}". Make room, or set HF_HOME to another disk.'
    if isinstance(error, PermissionError):
        return f"The cache cannot be written ({error.filename}). Set HF_HOME to a folder of yours."
    if "Consistency check failed" in str(error):
        return f'A file of "{repo_id}" arrived with the wrong size. Try again: it goes on where it stopped.'
    if isinstance(error, (httpx2.NetworkError, httpx2.ProtocolError, httpx2.ReadTimeout)) and not isinstance(
        error, httpx2.ConnectError
    ):
        return f'The connection to the Hub broke off at "{repo_id}". Try again: it goes on where it stopped.'
    if isinstance(error, LocalEntryNotFoundError):
        return _away(repo_id)
    if isinstance(error, OSError) and number is not None and not isinstance(error, ConnectionError):
        return f'"{repo_id}" cannot be stored ({error.strerror}). Check the disk, or set HF_HOME.'
    return _away(repo_id)


def _away(repo_id: str) -> str:
    return f'"{repo_id}" is no folder, not in the cache, and the Hub is away. Go online or give a folder.'
