"""Steers llama-cpp-python token by token with autoregressive reward models (GenARM).

``Guidance`` is a YAML file whose ARMs are loaded; ``Guidance.logits_processor`` and ``Guidance.sampler`` are the two ways into
llama-cpp-python. Weights may be changed at any time, from any thread; a change holds from the next token on.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

if TYPE_CHECKING:
    from llama_cpp import Llama

__all__ = ["GenarmError", "Guidance", "Sampler", "Weights"]

ABI_VERSION = 1


class GenarmError(RuntimeError):
    """A call of libgenarm that failed: its code (``genarm_status``) and its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _beside(name: str) -> Iterator[Path]:
    """Where a wheel has libgenarm: for newer processors in folders of their own, as glibc's loader knows them."""
    libraries = Path(__file__).parent / "lib"
    if sys.platform == "linux":
        flags = _processor_flags()
        if _V3 <= flags:
            yield libraries / "glibc-hwcaps" / "x86-64-v3" / name
    yield libraries / name


# What the level x86-64-v3 stands for, in the words of /proc/cpuinfo.
_V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})


def _processor_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split()) for line in lines if line.startswith("flags")), frozenset())


def _library_path() -> str:
    """Where libgenarm is: as GENARM_LIBRARY says, in this package, or where the system finds it."""
    if given := os.environ.get("GENARM_LIBRARY"):
        return given
    name = {"darwin": "libgenarm.dylib", "win32": "genarm.dll"}.get(sys.platform, "libgenarm.so")
    return next((str(file) for file in _beside(name) if file.is_file()), name)


def _open_library() -> ctypes.CDLL:
    path = _library_path()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"{error}: build it with `make build`, and set GENARM_LIBRARY to its path") from error
    library.genarm_abi_version.restype = c_uint32
    if library.genarm_abi_version() != ABI_VERSION:
        raise ImportError(f"{path} has ABI version {library.genarm_abi_version()}, this package needs {ABI_VERSION}")
    library.genarm_version.restype = library.genarm_last_error.restype = c_char_p
    floats, tokens = POINTER(c_float), POINTER(c_int32)
    signatures: dict[str, list[Any]] = {
        "open_file": [c_char_p, c_char_p, c_char_p, POINTER(c_void_p)],
        "open_string": [c_char_p, c_char_p, c_char_p, c_char_p, POINTER(c_void_p)],
        "close": [c_void_p],
        "watch": [c_void_p],
        "n_arms": [c_void_p, POINTER(c_size_t)],
        "arm_name": [c_void_p, c_size_t, POINTER(c_char_p)],
        "get_weights": [c_void_p, floats, c_size_t],
        "set_weight": [c_void_p, c_char_p, c_float],
        "set_weights": [c_void_p, floats, c_size_t],
        "set_profile": [c_void_p, c_char_p],
        "n_decoded": [c_void_p, POINTER(c_uint64)],
        "sampler_new": [c_void_p, c_void_p, c_void_p, POINTER(c_void_p)],
        "sampler_free": [c_void_p, c_void_p],
        "sampler_get_weights": [c_void_p, floats, c_size_t],
        "sampler_set_weight": [c_void_p, c_char_p, c_float],
        "sampler_set_weights": [c_void_p, floats, c_size_t],
        "sampler_set_profile": [c_void_p, c_char_p],
        "sampler_last_logprobs": [c_void_p, floats, c_size_t, tokens],
        "sampler_add_logits": [c_void_p, tokens, c_size_t, floats, c_size_t],
    }
    for name, arguments in signatures.items():
        function = getattr(library, f"genarm_{name}")
        function.argtypes, function.restype = arguments, ctypes.c_int
    return library


_library = _open_library()


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_library, f"genarm_{name}")(*arguments)
    if status != 0:
        raise GenarmError(status, _library.genarm_last_error().decode())


def _bytes(text: Union[str, os.PathLike[str], None]) -> Optional[bytes]:
    return None if text is None else os.fspath(text).encode()


class Weights(MutableMapping[str, float]):
    """The weights by ARM: of all samplers, or of one. Reading and writing go straight through."""

    def __init__(self, names: Sequence[str], prefix: str, handle: Callable[[], c_void_p]) -> None:
        self._names, self._prefix, self._handle = tuple(names), prefix, handle

    def _all(self) -> list[float]:
        values = (c_float * len(self._names))()
        _call(f"{self._prefix}get_weights", self._handle(), values, len(self._names))
        return list(values)

    def __getitem__(self, name: str) -> float:
        return dict(zip(self._names, self._all()))[name]

    def __setitem__(self, name: str, weight: float) -> None:
        _call(f"{self._prefix}set_weight", self._handle(), name.encode(), weight)

    def __delitem__(self, name: str) -> None:
        raise TypeError("an ARM cannot be deleted; set its weight to 0")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def set_all(self, weights: Sequence[float]) -> None:
        """Sets all weights at once, in the order of the ARMs."""
        _call(f"{self._prefix}set_weights", self._handle(), (c_float * len(weights))(*weights), len(weights))

    def use_profile(self, name: str) -> None:
        """Sets the weights of a profile of the configuration."""
        _call(f"{self._prefix}set_profile", self._handle(), name.encode())


class Guidance:
    """A configuration whose ARMs are loaded.

    ``config`` is a YAML file, or with ``yaml=`` a text whose paths start in ``folder``. ``profile`` and ``weights`` are laid over
    it. ``watch=True`` follows the file: a saved change of the weights holds from the next token on.
    """

    def __init__(
        self,
        config: Union[str, Path, None] = None,
        *,
        yaml: Optional[str] = None,
        folder: Union[str, Path, None] = None,
        profile: Optional[str] = None,
        weights: Optional[dict[str, float]] = None,
        watch: bool = False,
    ) -> None:
        if (config is None) == (yaml is None):
            raise TypeError("give a configuration file, or its text with yaml=")
        overrides = ",".join(f"{name}={weight!r}" for name, weight in (weights or {}).items()).encode()
        handle = c_void_p()
        if yaml is None:
            _call("open_file", _bytes(config), _bytes(profile), overrides, byref(handle))
        else:
            _call("open_string", yaml.encode(), _bytes(folder), _bytes(profile), overrides, byref(handle))
        self._handle: Optional[c_void_p] = handle
        n, name = c_size_t(), c_char_p()
        _call("n_arms", handle, byref(n))
        names = []
        for index in range(n.value):
            _call("arm_name", handle, index, byref(name))
            names.append((name.value or b"").decode())
        self.names: tuple[str, ...] = tuple(names)
        self.weights = Weights(self.names, "", self._open_handle)
        if watch:
            _call("watch", handle)

    def _open_handle(self) -> c_void_p:
        if self._handle is None:
            raise ValueError("this guidance is closed")
        return self._handle

    def __enter__(self) -> Guidance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def close(self) -> None:
        """Lets the ARMs go, once the last sampler is gone too."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            _call("close", handle)

    @property
    def n_decoded(self) -> int:
        """Tokens that the ARMs have read; what prefix reuse saves is not in it."""
        n = c_uint64()
        _call("n_decoded", self._open_handle(), byref(n))
        return n.value

    def sampler(self, llm: Optional[Llama] = None) -> Sampler:
        """A sampler with ARM sequences of its own; with ``llm``, made by its llama.cpp and checked against its vocabulary."""
        return Sampler(self, llm)

    def logits_processor(self, llm: Optional[Llama] = None) -> Callable[[Any, Any], Any]:
        """A ``LogitsProcessor`` of llama-cpp-python: one for each text that is generated at the same time."""
        return self.sampler(llm).process


class Sampler:
    """A ``llama_sampler *`` with ARM sequences and weights of its own."""

    def __init__(self, guidance: Guidance, llm: Optional[Llama] = None) -> None:
        self._pointer: Optional[c_void_p] = None
        self._init: Optional[c_void_p] = None
        vocab: Optional[c_void_p] = None
        if llm is not None:
            import llama_cpp

            self._init = ctypes.cast(llama_cpp.llama_cpp._lib.llama_sampler_init, c_void_p)
            vocab = c_void_p(llama_cpp.llama_model_get_vocab(llm._model.model))
        pointer = c_void_p()
        _call("sampler_new", guidance._open_handle(), vocab, self._init, byref(pointer))
        self._pointer, self._owned = pointer, True
        self.names = guidance.names
        self.weights = Weights(self.names, "sampler_", self._living)

    def _living(self) -> c_void_p:
        if self._pointer is None:
            raise ValueError("this sampler is freed")
        return self._pointer

    def add_to(self, chain: Any) -> None:
        """Adds it to a chain of llama-cpp-python's, which owns it from then on. It must be the chain's first."""
        import llama_cpp

        pointer = ctypes.cast(self._living(), llama_cpp.llama_cpp.llama_sampler_p_ctypes)
        llama_cpp.llama_sampler_chain_add(chain, pointer)
        self._owned = False

    def process(self, tokens: Any, logits: Any) -> Any:
        """Adds the weighted logits after ``tokens`` to a numpy row of logits, and returns it: a ``LogitsProcessor``."""
        import numpy as np

        history = np.ascontiguousarray(tokens, dtype=np.int32)
        row = np.array(logits, dtype=np.float32)
        _call(
            "sampler_add_logits",
            self._living(),
            history.ctypes.data_as(POINTER(c_int32)),
            history.size,
            row.ctypes.data_as(POINTER(c_float)),
            row.size,
        )
        logits[...] = row
        return logits

    def last_logprobs(self) -> dict[str, float]:
        """The natural log-probability that each ARM gave to the last accepted token: its reward, but for the factor β_r."""
        values = (c_float * len(self.names))()
        _call("sampler_last_logprobs", self._living(), values, len(self.names), None)
        return dict(zip(self.names, values))

    def free(self) -> None:
        """Frees it, unless a chain owns it."""
        if self._pointer is not None and self._owned:
            _call("sampler_free", self._pointer, self._init)
        self._pointer = None

    def __del__(self) -> None:
        if getattr(self, "_pointer", None) is not None:
            self.free()
