"""Text that people bring: lines, tables and JSON, read so that names stay as they are written.

Every error names the file, what is wrong with it and where.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import zlib
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omicllm._core import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pandas as pd

#: First bytes of packed files, and what opens them.
_PACKED: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
#: What stands for a missing number.
MISSING = frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "<NA>")
)
_NAMES_OF_SEPARATORS = {"\t": "tabs", ",": "commas", None: "blanks"}


def existing_file(path: str | Path, *, what: str = "file") -> Path:
    """The path of a file that is there.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        There is none, or a folder.
    """
    path = Path(path)
    if path.is_dir():
        msg = f"{path} is a folder, not a file (expected: {what})."
        raise IsADirectoryError(msg)
    if not path.is_file():
        kind = what if what.endswith("file") else "file"
        msg = f"There is no {kind} {path}."
        raise FileNotFoundError(msg)
    return path


def lines(path: str | Path, *, what: str = "file") -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of every line, plain or packed (gzip, bzip2, xz).

    A byte order mark and the ends of lines are left out.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        No such file.
    ValueError
        A damaged archive, or bytes that are no UTF-8 text (the line is given).
    """
    path = existing_file(path, what=what)
    with path.open("rb") as raw:
        first = raw.read(6)
    if first[:2] == b"PK":
        msg = f"{path} is a zip archive: unpack it, or pack the {what} with gzip."
        raise ValueError(msg)
    opened = next((o for magic, o in _PACKED if first.startswith(magic)), open)
    number = 0
    try:
        with opened(path, "rb") as handle:
            for raw_line in handle:
                line = raw_line.removeprefix(b"\xef\xbb\xbf") if number == 0 else raw_line
                for text in _decoded(line, path, number + 1, what).split("\r"):
                    number += 1
                    yield number, text
    except _DAMAGED as error:
        msg = f"{path} is truncated or damaged ({error}): fetch it again."
        raise ValueError(msg) from error


def _decoded(line: bytes, path: Path, number: int, what: str) -> str:
    """One line as text, without its end."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else "no UTF-8"
        msg = (
            f"{path}, line {number}: the {what} is {kind} (byte 0x{line[error.start]:02x}). "
            "Is it a text file? If so, save it as UTF-8."
        )
        raise ValueError(msg) from error
    if "\0" in text:
        msg = f"{path}, line {number}: the {what} holds a NUL byte, so it is no text file."
        raise ValueError(msg)
    return text.removesuffix("\n").removesuffix("\r")


def read_table(
    path: str | Path,
    *,
    what: str = "table",
    separator: str | None = "",
    numbers: Callable[[list[str]], Iterable[str]] | Iterable[str] = (),
    names: list[str] | None = None,
) -> pd.DataFrame:
    """Read a delimited table; all of it is text but for the columns asked for as numbers.

    Parameters
    ----------
    path
        Plain or packed; with a header unless `names` are given.
    what
        What it should be, for messages.
    separator
        None for blanks; when ``""``, a tab if the header has one, else a comma.
    numbers
        Columns to read as numbers, or a function from the header to them. Others hold the text
        of the file, ``""`` where it has none.
    names
        Names of the first columns of a file without a header; further columns are left out, and
        lines that begin with ``#`` are comments.

    Returns
    -------
    DataFrame whose index is the number of the line of each row. A column without a name is
    called ``""`` (the first), or left out if it is empty.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        No such file.
    ValueError
        No text, an empty file, a name twice in the header, a row with more or fewer fields than
        the header, a cell that is no number (line and column are given).
    """
    import pandas as pd

    records = _records(path, what, separator, comments=names is not None)
    if not records:
        msg = f"{path} is empty (expected: {what})."
        raise ValueError(msg)
    if separator == "":
        separator = "\t" if "\t" in records[0][1] else ","
    if names is None:
        columns = _parsed([records.pop(0)[1]], separator, dtype=str, keep_default_na=False)
        header = [str(c).strip() for c in columns.iloc[0]]
        _check_header(header, path, what)
        _check_widths(records, len(header), separator, path, what)
    else:
        header = list(names)
        at_least = len(header)
        _check_widths(records, at_least, separator, path, what, at_least=True)
    if not records:
        return pd.DataFrame({c: pd.Series(dtype=object) for c in header})
    wanted = set(numbers(header) if callable(numbers) else numbers)
    is_number = [c in wanted for c in header]
    frame = _parsed(
        [text for _, text in records], separator,
        names=list(range(len(header))), usecols=list(range(len(header))),
        dtype={i: str for i, number in enumerate(is_number) if not number},
        keep_default_na=False,
        na_values={i: list(MISSING) for i, number in enumerate(is_number) if number},
    )  # fmt: skip
    frame.index = pd.Index([number for number, _ in records])
    frame.columns = pd.Index(header)
    for i, number in enumerate(is_number):
        if number and frame.iloc[:, i].dtype.kind not in "fiub":
            frame.isetitem(i, to_numbers(frame.iloc[:, i], path=path, column=header[i]))
    unnamed = [i for i, c in enumerate(header) if i and not c]
    filled = [i for i in unnamed if (frame.iloc[:, i].astype(str) != "").any()]
    if filled:
        msg = f"{path}: column {filled[0] + 1} of the {what} has values but no name in the header."
        raise ValueError(msg)
    return frame.iloc[:, [i for i in range(len(header)) if i not in unnamed]]


def _parsed(rows: list[str], separator: str | None, **options: Any) -> pd.DataFrame:
    """What pandas makes of rows whose numbers of fields are known to be right."""
    import pandas as pd

    options.setdefault("header", None)
    sep = r"\s+" if separator is None else separator
    return pd.read_csv(StringIO("\n".join(rows) + "\n"), sep=sep, low_memory=False, **options)


def _records(
    path: str | Path, what: str, separator: str | None, *, comments: bool
) -> list[tuple[int, str]]:
    """Line number and text of each row; a quoted field may go over several lines."""
    out: list[tuple[int, str]] = []
    open_since = 0
    for number, line in lines(path, what=what):
        if open_since:
            out[-1] = (open_since, f"{out[-1][1]}\n{line}")
        elif not line.strip(" ") or (comments and line.startswith("#")):
            continue
        else:
            out.append((number, line))
        if '"' in line:
            record = out[-1][1]
            left = _quoted(separator or ("\t" if "\t" in record else ",")).sub("", record)
            begun = _begun(separator or ("\t" if "\t" in record else ",")).search(left)
            open_since = out[-1][0] if begun and separator is not None else 0
    if open_since:
        msg = f"{path}, line {open_since}: a quoted field begins there and never ends."
        raise ValueError(msg)
    return out


def _quoted(separator: str) -> re.Pattern[str]:
    """A field in quotes, whole."""
    return re.compile(rf'(?:(?<={separator})|(?<=\n)|^)"(?:[^"]|"")*"')


def _begun(separator: str) -> re.Pattern[str]:
    """A field in quotes that has no end."""
    return re.compile(rf'(?:(?<={separator})|(?<=\n)|^)"')


def _check_header(header: list[str], path: str | Path, what: str) -> None:
    named = [c for c in header if c]
    twice = sorted({c for c in named if named.count(c) > 1}) if len(set(named)) < len(named) else []
    if twice:
        msg = (
            f"{path}: the header of the {what} has a name more than once "
            f"({checks.listed(twice, most=5)}). Give each column a name of its own."
        )
        raise ValueError(msg)


def _check_widths(
    records: list[tuple[int, str]], width: int, separator: str | None, path: str | Path,
    what: str, *, at_least: bool = False,
) -> None:  # fmt: skip
    """Refuse rows that pandas would fill up or shift."""
    pattern = _quoted(separator) if separator else None
    for number, text in records:
        if pattern is None:
            found = len(text.split())
        else:
            plain = pattern.sub("", text) if '"' in text else text
            found = plain.count(separator or "") + 1
        if found < width or (found > width and not at_least):
            expected = f"at least {width} are expected" if at_least else f"the header has {width}"
            msg = (
                f"{path}, line {number}: the {what} has {found} field(s) here, but {expected} "
                f"(separated by {_NAMES_OF_SEPARATORS.get(separator, repr(separator))})."
            )
            raise ValueError(msg)


def to_numbers(values: pd.Series, *, path: str | Path, column: str) -> pd.Series:
    """A column of text, its index the lines of the file, as numbers; NaN where none is given.

    Raises
    ------
    ValueError
        A cell that is no number.
    """
    import pandas as pd

    text = values.astype(str).str.strip()
    absent = values.isna().to_numpy() | text.isin(MISSING).to_numpy()
    # Whole numbers over 64 bits are made fractions, or pandas would not read them.
    plain = text.str.replace(r"^([+-]?\d{19,})$", r"\1.0", regex=True)
    found = pd.to_numeric(plain.where(~absent, None), errors="coerce").astype(np.float64)
    wrong = np.flatnonzero(found.isna().to_numpy() & ~absent)
    if len(wrong):
        msg = (
            f"{path}, line {values.index[wrong[0]]}, column {column!r}: "
            f"{str(values.iloc[wrong[0]])[:40]!r} is no number."
        )
        raise ValueError(msg)
    return found


def row_names(values: pd.Series, *, path: str | Path, what: str, unique: bool = True) -> np.ndarray:
    """Names out of a column of :func:`read_table`, each there and, as a rule, only once.

    Raises
    ------
    ValueError
        A row without a name, or a name twice.
    """
    empty = np.flatnonzero((values.str.strip() == "").to_numpy())
    if len(empty):
        msg = f"{path}, line {values.index[empty[0]]}: the {what} has no name."
        raise ValueError(msg)
    twice = values[values.duplicated()].unique()
    if unique and len(twice):
        msg = f"{path} holds a {what} more than once ({checks.listed(twice, most=5)})."
        raise ValueError(msg)
    return values.to_numpy(dtype=object)


def read_json(path: str | Path, *, what: str = "JSON file", **options: Any) -> Any:
    """Content of a JSON file; `options` go to :func:`json.loads`.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        No such file.
    ValueError
        No text, or no JSON.
    """
    text = "\n".join(line for _, line in lines(path, what=what))
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        msg = f"{path} is nested too deeply (expected: {what})."
        raise ValueError(msg) from error
    except json.JSONDecodeError as error:
        msg = f"{path} is not JSON, or truncated ({error}). Expected: {what}."
        raise ValueError(msg) from error
    except ValueError as error:
        msg = f"{path} is no usable {what} ({error})."
        raise ValueError(msg) from error


_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,17})?(?:\.\d*)?(?:[eE][+-]?\d+)?")


def typed(values: pd.Series) -> pd.Series:
    """Numbers where all of a column are written as numbers, else the text as it is.

    ``01`` is text, as a number would be another name. Whole numbers stay so (the type Int64 where
    some are missing). An empty cell is missing; so is ``NA`` among numbers, not among words.
    """
    import pandas as pd

    text = values.astype(str)
    absent = text.isin(MISSING)
    there = text[~absent]
    if there.empty:
        return text.where(text != "", None).astype(object)
    if set(there.unique()) <= {"True", "False"} and not absent.any():
        return text == "True"
    if there.map(_WHOLE.fullmatch).notna().all():
        whole = pd.to_numeric(text.where(~absent, None)).astype("Int64")
        return whole if absent.any() else whole.astype(np.int64)
    if (
        there.map(lambda t: any(c.isdigit() for c in t) and _DECIMAL.fullmatch(t))
        .astype(bool)
        .all()
    ):
        return pd.to_numeric(text.where(~absent, None)).astype(np.float64)
    return text.where(text != "", None).astype(object)
