"""Write README.md from nbs/index.ipynb, without quarto: `python tools/readme.py`.

Markdown and visible code come along with their outputs; cells with `#| hide` and lines with `#|` do not.
Links are written in the notebook as seen from nbs/, and here as seen from the root.
"""
import re
from pathlib import Path
from posixpath import normpath

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
IMAGES = 'nbs/images/readme'  # for what cells plot
NOTE = '<!-- Made from nbs/index.ipynb by tools/readme.py: edit the notebook, not this file. -->\n\n'


def from_root(match):
    "Turn a link seen from nbs/ into one seen from the root; leave addresses and anchors alone."
    before, target = match.groups()
    return match[0] if re.match(r'[a-z]+:|[#/]', target) else before + normpath('nbs/' + target)


def visible(cell):
    "Return the cell as a reader of README.md sees it, or None."
    if cell.cell_type == 'raw' or re.search(r'^#\|\s*(hide|default_exp)\b', cell.source, re.M): return None
    if cell.cell_type == 'markdown': cell.source = re.sub(r'(\]\(|\b(?:src|href)=")([^)"\s]+)', from_root, cell.source)
    else: cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip()
    return cell if cell.source else None


def readme(path):
    "Return the text of README.md, and its images by file name."
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [shown for cell in notebook.cells if (shown := visible(cell))]
    notebook.metadata['language_info'] = {'name': 'python'}  # nbdev-clean removes it, and code fences need it
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources={'output_files_dir': IMAGES})
    return NOTE + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n', resources.get('outputs', {})


if __name__ == '__main__':
    text, images = readme(ROOT/'nbs'/'index.ipynb')
    for old in (ROOT/IMAGES).glob('*'): old.unlink()
    for name, data in images.items():
        (ROOT/name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT/name).write_bytes(data)
    (ROOT/'README.md').write_text(text, encoding='utf-8')
