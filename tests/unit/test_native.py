"""The choice of the backend for TorchScript, and its compilation by the real compiler."""

from pathlib import Path

import pytest

from tests.compiler import NEEDS_NATIVE
from tools.serve import native
from tools.serve.native import choose_backend
from tools.serve.server_error import ServerError


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which nothing has been compiled."""
    monkeypatch.setattr(native, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


@pytest.mark.usefixtures("empty_cache", "no_compiler")
def test_without_a_compiler_the_python_based_backend_serves_and_the_remedy_is_named() -> None:
    choice = choose_backend("auto")
    assert choice.name == "python" and choice.library is None
    assert choice.reason == "no C++ compiler was found; install a C++20 compiler (Debian, Ubuntu: apt install g++)"
    with pytest.raises(ServerError, match="no C\\+\\+ compiler was found; install"):
        choose_backend("native")


@NEEDS_NATIVE
@pytest.mark.usefixtures("no_compiler")
def test_what_was_compiled_before_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as compiling:
        compiling.undo()
        compiled = choose_backend("native").library
    assert compiled and choose_backend("native").library == compiled


@NEEDS_NATIVE
def test_sources_that_do_not_compile_are_refused_with_the_compilers_words(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "backend.cc").write_text("int answer() { return nothing; }\n")
    monkeypatch.setattr(native, "SOURCES", sources)
    with pytest.raises(ServerError, match="does not compile .*'nothing' was not declared"):
        choose_backend("native")
    assert choose_backend("auto").name == "python"
    assert not list(empty_cache.rglob("*.so"))


@NEEDS_NATIVE
def test_a_library_that_cannot_be_loaded_is_not_kept(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    # A variable, not a function: it is bound when the library is loaded.
    (sources / "backend.cc").write_text("extern int missing_symbol; int* address = &missing_symbol;\n")
    monkeypatch.setattr(native, "SOURCES", sources)
    with pytest.raises(ServerError, match="cannot be loaded: .*missing_symbol"):
        choose_backend("native")
    assert not list(empty_cache.rglob("*.so"))


def test_the_python_based_backend_can_be_chosen() -> None:
    assert choose_backend("python").name == "python"
