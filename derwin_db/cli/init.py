"""`derwin-db init`."""

from pathlib import Path

import click

from derwin_db.cli.output import command, json_option, replacing, show
from derwin_db.errors import ConfigurationError

FILES = {".env": "env.txt", "service.py": "service.txt"}
"""What is written, and what it is written from."""

NEXT = """
Next:
  derwin-db migrate
  derwin-db seed
  uvicorn service:app        (pip install 'derwin-db[fastapi]' uvicorn)"""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@json_option
@command
def init(folder: Path, as_json: bool) -> None:
    """Write a .env and an example service into a folder. Nothing that is there is overwritten."""
    present = [name for name in FILES if (folder / name).exists()]
    if present:
        raise ConfigurationError(f"{folder} has {' and '.join(present)} already: choose another folder. Nothing was written.")
    folder.mkdir(parents=True, exist_ok=True)
    starter = Path(__file__).parent / "starter"
    for name, source in FILES.items():
        with replacing(folder / name) as file:
            file.write((starter / source).read_bytes())
    written = [str(folder / name) for name in FILES]
    show({"written": written}, f"Written: {', '.join(written)}\n{NEXT}", as_json=as_json)
