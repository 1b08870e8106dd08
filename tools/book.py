"""Write what all notebooks share, and check that they hang together: `python tools/book.py`.

From `repository = owner/name` in settings.ini come the Colab badge, a notebook's first cell, and the install cell, which
does nothing outside Colab. While the setting is empty there is no badge, and the cell only says how to get the package:
its name on PyPI belongs to nobody, and whoever takes it would run code on readers' machines.
Then every notebook is checked: its question, its two exercises with folded solutions, its links, no folder of this
machine in its outputs. A room, a letter after its number (`17a_settings`), has code and checks that a learner may skip:
it needs no question and no exercises. Status 1 if one lacks something.
"""
import re
import sys
from configparser import ConfigParser
from pathlib import Path

from fastcore.nbio import mk_cell, nb2str, read_nb, write_nb

ROOT = Path(__file__).resolve().parents[1]
BADGE = '[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]'
INSTALL = '''#| eval: false
#| hide
# [ -e /content ] marks Colab; elsewhere the package is already installed
!bash -c '[ -e /content ] && {}' '''.rstrip()
BY_HAND = 'echo "Upload the repository of {} to /content/book, then: !pip install -q ./book && cp -rn book/nbs/logs ."'
FROM_REPOSITORY = '[ ! -e /content/book ] && cd /content && git clone -q --depth 1 https://github.com/{} book && pip install -q ./book && cp -rn book/nbs/logs .'


def settings():
    "The package's name, and the repository or ''."
    config = ConfigParser(delimiters=['='])
    with open(ROOT/'settings.ini', encoding='utf-8') as f: config.read_file(f)
    name, repository = config['DEFAULT']['lib_name'], config['DEFAULT']['repository'].strip()
    if repository and not re.fullmatch(r'[\w-]+/[\w.-]+', repository):
        sys.exit(f'settings.ini: repository = {repository}: must be owner/name as on GitHub, or nothing')
    return name, repository


def furnish(notebook, name, package, repository):
    "Put the badge and the install cell into a notebook, in place."
    install = INSTALL.format(FROM_REPOSITORY.format(repository) if repository else BY_HAND.format(package))
    for cell in notebook.cells:
        if cell.cell_type == 'code' and '[ -e /content ]' in cell.source: cell.source = install
    if notebook.cells[0].source.startswith(BADGE): del notebook.cells[0]
    if repository:
        address = f'https://colab.research.google.com/github/{repository}/blob/main/nbs/{name}'
        notebook.cells.insert(0, mk_cell(f'{BADGE}({address})', 'markdown', id='colab-badge'))


def is_room(path): return re.match(r'\d+[a-z]_', path.name) is not None


def flaws(notebook, path, neighbours):
    "What a numbered notebook lacks, one line each."
    prose = [cell.source for cell in notebook.cells if cell.cell_type == 'markdown']
    text, last = '\n'.join(prose), prose[-1]
    title = next((i for i, cell in enumerate(notebook.cells) if cell.source.startswith('# ')), None)
    if title is None or '\n> ' not in notebook.cells[title].source: yield 'has no title with a claim'
    elif not is_room(path) and '**Question.**' not in notebook.cells[title + 1].source: yield 'has no **Question.** below its title'
    if sum('[ -e /content ]' in cell.source for cell in notebook.cells if cell.cell_type == 'code') != 1: yield 'needs one install cell with [ -e /content ]'
    if '## What we learned' not in text: yield "has no section 'What we learned'"
    if not is_room(path): yield from missing_exercises(text)
    if any(str(place) in nb2str(notebook) for place in (ROOT, Path.home()) if place != Path('/')): yield 'names a folder of this machine'
    for neighbour in neighbours:
        if f']({neighbour})' not in last: yield f'does not end with a link to {neighbour}'
    yield from dead_links(text, path)


def missing_exercises(text):
    "What a lesson's exercises lack, one line each."
    exercises = text.partition('## Exercises')[2]
    if exercises.count('<details>') < 2 or exercises.count('</details>') != exercises.count('<details>'):
        yield "needs a section 'Exercises' with two folded solutions"
    elif exercises.count('```') < 4: yield 'needs code in both solutions'


def dead_links(text, path):
    "Links to files that do not exist, one line each."
    for target in re.findall(r'\]\((?![a-z]+:|#)([^)\s#]+)', re.sub(r'```.*?```|`[^`\n]*`|\$[^$]*\$', '', text, flags=re.S)):
        if not (path.parent/target).exists(): yield f'links to {target}, which does not exist'


def main():
    package, repository = settings()
    paths = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
    names, wrong = [p.name for p in paths], []
    for i, path in enumerate(paths):
        notebook = read_nb(path)
        furnish(notebook, path.name, package, repository)
        if nb2str(notebook) != path.read_text(encoding='utf-8'): write_nb(notebook, path)
        wrong += [f'nbs/{path.name}: {flaw}' for flaw in flaws(notebook, path, names[max(0, i - 1):i] + names[i + 1:i + 2])]
    index = ROOT/'nbs'/'index.ipynb'
    text = '\n'.join(cell.source for cell in read_nb(index).cells)
    wrong += [f'nbs/index.ipynb: {flaw}' for flaw in dead_links(text, index)]
    wrong += [f'nbs/index.ipynb: has no row for {name}' for name in names if f']({name})' not in text]
    if wrong: sys.exit('\n'.join(wrong))


if __name__ == '__main__': main()
