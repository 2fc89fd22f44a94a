"""Files that are neither records nor plain text, and what to do with each.

They are known by their name or by their first bytes. Reading one as text would
train on its bytes, so it is refused with the way to what can be read.
"""

import re

from etils import epath

from instruct_jax.base import errors, pointers

_SHEET = "save its sheet as CSV (UTF-8) and name that"
_TEXT = 'save its text as .txt (UTF-8), or as .jsonl with a "text" a line'
_UNPACK = "unpack it and name the files that are in it"
_TABLE = "write it as Parquet, CSV or JSON lines and name that"
_FRAME = (
  "pandas.DataFrame(...).to_json('x.jsonl', orient='records', lines=True)"
)
_HUGGING = (
  "datasets.Dataset.from_file(FILE).to_parquet('x.parquet') converts it"
)
_SEPARATED = "write it with commas as .csv, or with tabs as .tsv"
_UTF8 = "`iconv -f {} -t UTF-8 FILE > NEW` converts it"

_WORKBOOK = ("an Excel workbook or another spreadsheet", _SHEET)
_ARCHIVE = ("an archive", _UNPACK)
_DOCUMENT = ("a formatted document", _TEXT)
_IMAGE = ("an image, a sound or a film", "only text is read")
_PICKLE = ("a pickle (never opened, since it can run code)", _FRAME)
_ARRAY = ("an array of numbers", _TABLE)
_ARROW = ("an Arrow file", _HUGGING)
_BASE = ("a database", _TABLE)
_MARKUP = ("a file with markup", _TEXT)
_YAML = ("YAML", "json.dump(yaml.safe_load(open(FILE)), ...) makes JSON of it")
_RECORDS = ("a file of binary records", "name a TFDS set as tfds:name/config")
_WEIGHTS = ("the weights of a model", "they are no data")
_COMPRESSED = (
  "compressed in a way of its own",
  "gzip, bzip2, xz and zstandard are read; unpack it",
)

# What a file is, by the end of its name.
_ENDINGS = {
  ".xlsx .xls .xlsm .xlsb .ods .numbers": _WORKBOOK,
  ".zip .tar .tgz .tbz2 .txz .7z .rar .jar": _ARCHIVE,
  ".docx .doc .odt .rtf .epub .pdf .mobi .pptx .ppt": _DOCUMENT,
  ".png .jpg .jpeg .gif .webp .bmp .tif .tiff .svg .ico .heic": _IMAGE,
  ".mp3 .wav .flac .ogg .mp4 .avi .mov .mkv .webm": _IMAGE,
  ".pkl .pickle .joblib .dill": _PICKLE,
  ".npy .npz .mat .h5 .hdf5 .rds .rdata": _ARRAY,
  ".arrow .feather .ipc": _ARROW,
  ".sqlite .sqlite3 .db .mdb .orc .avro .dta .sav .sas7bdat": _BASE,
  ".html .htm .xhtml .xml .xsl": _MARKUP,
  ".yaml .yml": _YAML,
  ".tfrecord .tfrecords .array_record .riegeli .msgpack .bson": _RECORDS,
  ".safetensors .gguf .pt .pth .ckpt .onnx": _WEIGHTS,
  ".lz4 .snappy .br .lzma .z .lz": _COMPRESSED,
  ".ipynb": ("a notebook", _TEXT),
  ".psv .ssv .dsv": ("a table with separators of its own", _SEPARATED),
}
_BY_ENDING = {
  ending: found for names, found in _ENDINGS.items() for ending in names.split()
}
# What a file is, by what it starts with.
_STARTS = (
  (b"PK\x03\x04", ("a zip archive, as .xlsx and .docx are too", _UNPACK)),
  (b"PK\x05\x06", _ARCHIVE),
  (b"7z\xbc\xaf\x27\x1c", _ARCHIVE),
  (b"Rar!\x1a\x07", _ARCHIVE),
  (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _WORKBOOK),
  (b"%PDF-", _DOCUMENT),
  (b"{\\rtf", _DOCUMENT),
  (b"\x89PNG\r\n", _IMAGE),
  (b"\xff\xd8\xff", _IMAGE),
  (b"GIF87a", _IMAGE),
  (b"GIF89a", _IMAGE),
  (b"II*\x00", _IMAGE),
  (b"MM\x00*", _IMAGE),
  (b"\x93NUMPY", _ARRAY),
  (b"\x89HDF\r\n", _ARRAY),
  (b"ARROW1", _ARROW),
  (b"FEA1", _ARROW),
  (b"\xff\xff\xff\xff", _ARROW),  # a stream of it
  (b"SQLite format 3\x00", _BASE),
  (b"Obj\x01", _BASE),
  (b"GGUF\x03\x00", _WEIGHTS),
  (b"\x04\x22\x4d\x18", _COMPRESSED),
  (b"\x1f\x9d", _COMPRESSED),
  (b"LZIP\x01", _COMPRESSED),
)
_FILM = re.compile(rb"RIFF....(WEBP|WAVE|AVI )", re.S)
_PICKLED = re.compile(rb"\x80[\x02-\x05][\x95c}\](\x8cX]")
_MARKED = re.compile(
  rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html[\s>]|\?xml\s)", re.I
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_BYTES_SEEN = 256  # enough to tell UTF-16 without a mark


def check(path: epath.Path, ending: str, first: bytes) -> None:
  """Raises UserError for what is neither records nor plain text.

  Args:
    path: of the file.
    ending: of its name, without that of its compression, in lower case.
    first: its first bytes, unpacked.
  """
  pointers.check(path, first)
  found = _BY_ENDING.get(ending) or _by_start(first)
  if found and first.strip():
    what, instead = found
    raise errors.UserError(f"{path}: {what}, which is not read; {instead}")


def _by_start(first: bytes) -> tuple[str, str] | None:
  """(what it is, what to do), None for what may be text or records."""
  encoding = _encoding(first)
  if encoding:
    return f"text in {encoding}, not in UTF-8", _UTF8.format(encoding)
  if first[257:262] == b"ustar":
    return _ARCHIVE
  if _FILM.match(first):
    return _IMAGE
  if _PICKLED.match(first):
    return _PICKLE
  if _MARKED.match(first):
    return _MARKUP
  return next((is_ for start, is_ in _STARTS if first.startswith(start)), None)


def _encoding(first: bytes) -> str:
  """UTF-16 or UTF-32 by its mark, or by the zeros beside every letter."""
  if first.startswith(_UTF32):
    return "UTF-32"
  if first.startswith(_UTF16):
    return "UTF-16"
  sample = first[:_BYTES_SEEN]
  odd, even = sample[1::2], sample[::2]
  for zeros, letters, name in (
    (odd, even, "UTF-16LE"),
    (even, odd, "UTF-16BE"),
  ):
    # Every second byte, and none between: text of the Latin script.
    if len(sample) > 3 and zeros.count(0) > 0.8 * len(zeros):
      return name if letters.count(0) == 0 else ""
  return ""
