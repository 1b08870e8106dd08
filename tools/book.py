"""Write what all notebooks share, and check that they hang together: `python tools/book.py`.

Written are the Colab badge (a notebook's first cell), the install cell, the kernel, the folds over cells marked
`#| hide`, a lesson's last cell, which tests its solutions, the links at the end, and the tables of index.ipynb; and
the images of a notebook of more than 400 kB are stored with 256 colours, or 128. Badge and install cell come from
`repository = owner/name` in settings.ini. While it is empty there is no badge, and the cell only says how to get the
package: its name on PyPI belongs to nobody, and whoever takes it would run code on readers' machines.

Then every notebook is checked: its question, its two exercises with folded solutions, an output, and no folder of a
machine in one. A lesson must be short (`LESSON`); a room, a letter after its number (`16a_settings`), has code and
checks that a learner may skip: it needs no question and no exercises. And the layers: exported cells import from
notebooks of lower numbers, or of their own number without a circle, and nobody imports another module's underscore
names. Status 1 if something is wrong. `python tools/book.py --table` prints the sizes of the lessons instead.
"""
import ast
import base64
import io
import re
import sys
from configparser import ConfigParser
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from fastcore.nbio import mk_cell, nb2str, read_nb, write_nb
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'dreambooth_nb'
BADGE = '[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]'
INSTALL = r'''#| eval: false
#| hide
# [ -e /content ] marks Colab; elsewhere the package is already installed
!bash -c '[ -e /content ] && {}' '''.rstrip()
BY_HAND = r'''\
    echo "Upload the repository of {} to /content/book, then:" \
    "!pip install -q ./book && cp -rn book/nbs/logs ."'''
FROM_REPOSITORY = r'''[ ! -e /content/book ] && cd /content && \
    git clone -q --depth 1 https://github.com/{} book && \
    pip install -q ./book && cp -rn book/nbs/logs .'''
MACHINE = re.compile(r'(?<![\w.<-])/(?:tmp|home|root|Users|work|var|opt)/\S+|\S*site-packages\S*')
KERNEL = dict(kernelspec=dict(display_name='python3', language='python', name='python3'),
              language_info=dict(name='python'))
FOLDED = dict(jupyter=dict(source_hidden=True), cellView='form')    # JupyterLab's word, and Colab's
SOLUTIONS = '''#| hide
# while the book is tested, the solutions run too
import os
import runpy
if 'IN_TEST' in os.environ: runpy.run_path('../tools/solutions.py')['run']('{}', globals())'''
PATH = 12       # the last lesson that a learner walks; those after it are about the tool
LESSON = dict(cells=45, lines=250, width=100, first_image=10)   # before its exercises; code that a reader sees
NOTEBOOK = 400_000  # characters of a notebook; in a larger one images are stored with fewer colours
LARGE = 20_000      # if they have more bytes than this
LINKS = ('Previous: ', 'Next: ', 'Lesson: ')     # what the line with the links begins with


def settings():
    "Read the package's name, and the repository or ''."
    config = ConfigParser(delimiters=['='])
    with open(ROOT/'settings.ini', encoding='utf-8') as f: config.read_file(f)
    name, repository = config['DEFAULT']['lib_name'], config['DEFAULT']['repository'].strip()
    if repository and not re.fullmatch(r'[\w-]+/[\w.-]+', repository):
        sys.exit(f'settings.ini: repository = {repository}: must be owner/name as on GitHub, or nothing')
    return name, repository


def number_of(path): return int(path.name[:2])


def is_room(path): return re.match(r'\d+[a-z]_', path.name) is not None


def title_of(notebook): return next(cell.source for cell in notebook.cells if cell.source.startswith('# '))


def has_flag(cell, flag):
    "Check whether a cell begins with a directive of nbdev's."
    return re.search(rf'^#\|\s*{flag}\b', cell.source, re.M) is not None


# what is written

def furnish(notebook, name, package, repository):
    "Put badge, install cell, kernel and folds into a notebook, in place."
    notebook.metadata = notebook.metadata | KERNEL
    for cell in notebook.cells:
        if cell.cell_type == 'code': cell.metadata = FOLDED if has_flag(cell, 'hide') else {}
    install = INSTALL.format(FROM_REPOSITORY.format(repository) if repository else BY_HAND.format(package))
    for cell in notebook.cells:
        if cell.cell_type == 'code' and '[ -e /content ]' in cell.source: cell.source = install
    if notebook.cells[0].source.startswith(BADGE): del notebook.cells[0]
    if repository:
        address = f'https://colab.research.google.com/github/{repository}/blob/main/nbs/{name}'
        notebook.cells.insert(0, mk_cell(f'{BADGE}({address})', 'markdown', id='colab-badge'))


def save_space(notebook):
    "Store the large images of a large notebook with fewer colours, in place; those with a palette stay as they are."
    data_of = [output['data'] for cell in notebook.cells for output in cell.get('outputs', [])
               if 'image/png' in output.get('data', {})]
    if len(nb2str(notebook)) > NOTEBOOK:
        for data in data_of: data.pop('image/jpeg', None)   # the same image once more
    pngs = [base64.b64decode(''.join(data['image/png'])) for data in data_of]
    for colours in (256, 128):
        if len(nb2str(notebook)) <= NOTEBOOK: return
        for data, png in zip(data_of, pngs):
            if len(png) > LARGE and (small := with_palette(png, colours)):
                data['image/png'] = base64.b64encode(small).decode()


def with_palette(png, colours):
    "Encode an image with the colours that suit it best; None if it has a palette already."
    image = Image.open(io.BytesIO(png))
    if image.mode == 'P': return None
    image = image.convert('RGB')
    half = image.resize((image.width//2, image.height//2), Image.Resampling.NEAREST)     # faster, and the same colours
    palette = half.quantize(colours, kmeans=1, dither=Image.Dither.NONE)
    reds, greens, blues = (palette.getpalette()[i::3] for i in range(3))
    white = [min(colour) > 245 for colour in zip(reds, greens, blues)]      # of the page, which a mean would tint
    palette.putpalette([255 if is_white else value for *colour, is_white in zip(reds, greens, blues, white)
                        for value in colour])
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(file := io.BytesIO(), format='PNG', optimize=True)
    return file.getvalue()


def link(path, notebook):
    "Write a link to a notebook: number and title."
    number = path.name.split('_')[0]
    return f'[{number} {title_of(notebook).splitlines()[0][2:]}]({path.name})'


def links_at_end(path, notebooks):
    "Write the line that leads on: from a lesson to its neighbours and rooms, from a room to its lesson."
    lessons = [p for p in notebooks if not is_room(p)]
    def to(paths): return ', '.join(link(p, notebooks[p]) for p in paths)
    if is_room(path): return f'Lesson: {to(p for p in lessons if number_of(p) == number_of(path))}.'
    i = lessons.index(path)
    rooms = [p for p in notebooks if is_room(p) and number_of(p) == number_of(path)]
    words = [('Previous', lessons[max(0, i - 1):i]), ('Next', lessons[i + 1:i + 2]), ('Rooms', rooms)]
    return ' '.join(f'{word}: {to(paths)}.' for word, paths in words if paths)


def lead_on(notebook, line):
    "Put the line with the links at a notebook's end, in place."
    notebook.cells = [cell for cell in notebook.cells if 'tools/solutions.py' not in cell.source]
    last = notebook.cells[-1]
    if last.cell_type != 'markdown':
        notebook.cells.append(last := mk_cell('', 'markdown'))
    paragraphs = last.source.strip().split('\n\n')
    if paragraphs[-1].startswith(LINKS) or not paragraphs[-1]: paragraphs.pop()
    last.source = '\n\n'.join([*paragraphs, line])


def test_solutions(notebook, name):
    "Let a lesson's solutions be tested after its last cell, in place."
    cell = mk_cell(SOLUTIONS.format(name), id='solutions')
    cell.metadata = FOLDED
    notebook.cells.append(cell)


def minutes(notebook):
    "Estimate how long a lesson is read: 200 words, or 20 lines of code, a minute."
    size = measure(notebook)
    return max(1, round(size['words']/200 + size['lines']/20))


def table_of(paths, notebooks, head):
    "Write a table of notebooks: number and title, claim, and how long a lesson is read."
    def claim(path): return re.search(r'^> (.*)', title_of(notebooks[path]), re.M)[1]
    rows = [f'| {link(p, notebooks[p])} | {claim(p)} |' for p in paths]
    if 'minutes' in head:
        times = [minutes(notebooks[p]) for p in paths]
        rows = [f'{row} {time} |' for row, time in zip(rows, times)] + [f'| | together | {sum(times)} |']
    return '\n'.join([head, *rows])


def list_in_index(index, notebooks):
    "Put the tables of lessons and of rooms into index.ipynb, in place: each stands where its first line stands."
    kinds = {'| lesson | what you see happen | minutes |': lambda p: not is_room(p) and number_of(p) <= PATH,
             '| lesson | what the tool does | minutes |': lambda p: not is_room(p) and number_of(p) > PATH,
             '| room | what is in it |': is_room}
    for first, is_listed in kinds.items():
        head = f'{first}\n|---|---|' + '---:|'*('minutes' in first)
        table = table_of([p for p in notebooks if is_listed(p)], notebooks, head)
        for cell in index.cells:
            old = re.search(rf'^{re.escape(first)}.*?(?=\n(?!\|)|\Z)', cell.source, flags=re.M | re.S)
            if old: cell.source = cell.source.replace(old[0], table)


# what is measured

def measure(notebook):
    "Measure what a reader meets before the exercises: cells, lines of visible code, words, images; find the first one."
    cells = notebook.cells
    end = next((i for i, cell in enumerate(cells) if '## Exercises' in cell.source), len(cells))
    cells = [cell for cell in cells[:end] if not has_flag(cell, 'hide') and not cell.source.startswith(BADGE)]
    code = [cell for cell in cells if cell.cell_type == 'code' and not has_flag(cell, 'default_exp')]
    lines = [line for cell in code for line in cell.source.split('\n') if line.strip() and not line.startswith('#|')]
    text = ' '.join(cell.source for cell in cells if cell.cell_type == 'markdown')
    with_image = [i for i, cell in enumerate(cells) if '](images/' in cell.source or has_image(cell)]
    return dict(cells=len(cells), lines=len(lines), words=len(text.split()), images=len(with_image),
                first_image=with_image[0] + 1 if with_image else None, width=max(map(len, lines), default=0))


def has_image(cell):
    "Check whether a cell's output is an image."
    return any('image/png' in output.get('data', {}) or 'image/svg+xml' in output.get('data', {})
               for output in cell.get('outputs', []))


def size_flaws(notebook):
    "Say where a lesson is longer than a lesson may be, one line each."
    size = measure(notebook)
    for name in ('cells', 'lines', 'width'):
        if size[name] > LESSON[name]: yield f'has {name}: {size[name]} before its exercises, {LESSON[name]} at most'
    if (size['first_image'] or 1000) > LESSON['first_image']:
        yield f"shows its first image in cell {size['first_image']}; {LESSON['first_image']} at most"


def print_sizes(notebooks):
    "Print how long the lessons are."
    print('| lesson | cells | lines | widest | words | images | first image | minutes |\n|---|' + '---:|'*7)
    for path, notebook in notebooks.items():
        if is_room(path): continue
        size = measure(notebook)
        values = [size[name] for name in ('cells', 'lines', 'width', 'words', 'images', 'first_image')]
        print(f'| {path.stem} |', ' | '.join(map(str, [*values, minutes(notebook)])), '|')


# what is checked: the text

def flaws(notebook, path):
    "Say what a numbered notebook lacks, one line each."
    text = '\n'.join(cell.source for cell in notebook.cells if cell.cell_type == 'markdown')
    code = [cell.source for cell in notebook.cells if cell.cell_type == 'code']
    claim = re.search(r'^> (.*)', title_of(notebook), re.M)
    if claim is None: yield 'has no claim below its title'
    elif len(claim[1]) > 114: yield f"has a claim of {len(claim[1])} characters; its module's first line holds 114"
    if sum('[ -e /content ]' in source for source in code) != 1: yield 'needs one install cell with [ -e /content ]'
    if '## What we learned' not in text: yield "has no section 'What we learned'"
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    if not outputs: yield 'shows nothing: no cell has an output'
    if (size := len(nb2str(notebook))) > NOTEBOOK: yield f'has {size:,} characters, {NOTEBOOK:,} at most'
    for said in (said for output in outputs for said in texts_of(output)):
        if place := MACHINE.search(said): yield f'names a folder of a machine in an output: {place[0]}'
    yield from patched_elsewhere('\n'.join(code))
    if not is_room(path): yield from [*missing_in_lesson(text), *size_flaws(notebook)]
    yield from dead_links(text, path)


def patched_elsewhere(code):
    "Say which classes of other notebooks are patched: the tests would keep methods whose names are gone."
    patched = re.findall(r'@patch[^\n]*\n(?:@[^\n]*\n)*def \w+\((?:self|cls):(\w+)', code)
    for name in sorted({*patched} - {*re.findall(r'^class (\w+)', code, re.M)}):
        yield f'patches {name}, which is of another notebook; write the method there'


def missing_in_lesson(text):
    "Say what a lesson lacks, one line each."
    exercises = text.partition('## Exercises')[2]
    if '**Question.**' not in text: yield 'has no **Question.**'
    if exercises.count('<details>') < 2 or exercises.count('</details>') != exercises.count('<details>'):
        yield "needs a section 'Exercises' with two folded solutions"
    elif exercises.count('```') < 4: yield 'needs code in both solutions'


def texts_of(output):
    "Yield what an output says in words, without its images."
    data = output.get('data', {})
    for said in (output.get('text'), data.get('text/plain'), data.get('text/html'), output.get('traceback')):
        if said: yield said if isinstance(said, str) else ''.join(said)


def dead_links(text, path):
    "List links to files that do not exist, one line each."
    prose = re.sub(r'```.*?```|`[^`\n]*`|\$[^$]*\$', '', text, flags=re.S)
    for target in re.findall(r'\]\((?![a-z]+:|#)([^)\s#]+)', prose):
        if not (path.parent/target).exists(): yield f'links to {target}, which does not exist'


# what is checked: the layers

def tree_of(source):
    "Parse a cell, its shell commands left out."
    lines = ['pass' if re.match(r'\s*[!%]', line) else line for line in source.split('\n')]
    return ast.parse('\n'.join(lines)) if '[ -e /content ]' not in source else ast.Module([], [])


def imports(source):
    "List what a cell takes from this package: (module, name), also within functions."
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(f'{PACKAGE}.'):
            yield from ((node.module.split('.')[1], alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            taken = [alias.name.split('.') for alias in node.names]
            yield from ((names[1], None) for names in taken if names[0] == PACKAGE and len(names) > 1)


def module_of(notebook):
    "Return the module that a notebook exports, or None."
    sources = [cell.source for cell in notebook.cells if cell.cell_type == 'code']
    return next((m[1] for source in sources if (m := re.search(r'^#\|\s*default_exp\s+(\w+)', source, re.M))), None)


def layer_flaws(notebooks):
    "List the imports that no layer allows, one line each."
    numbers = {module_of(notebook): number_of(path) for path, notebook in notebooks.items()}
    graph = {}
    for path, notebook in notebooks.items():
        own = module_of(notebook)
        for cell in (cell for cell in notebook.cells if cell.cell_type == 'code'):
            exported = re.search(r'^#\|\s*export', cell.source, re.M)
            for module, name in imports(cell.source):
                if module != own and name and name.startswith('_'):
                    yield f'nbs/{path.name}: imports {name}, which belongs to {module} alone'
                if not exported: continue
                graph.setdefault(own, set()).add(module)
                if numbers.get(module, 0) > number_of(path):
                    yield f'nbs/{path.name}: exports an import of {module}, whose number is higher'
    try: TopologicalSorter(graph).prepare()
    except CycleError as e: yield f'modules import each other in a circle: {" <- ".join(e.args[1])}'


def main():
    package, repository = settings()
    notebooks = {path: read_nb(path) for path in sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))}
    if '--table' in sys.argv[1:]: return print_sizes(notebooks)
    wrong = []
    for path, notebook in notebooks.items():
        furnish(notebook, path.name, package, repository)
        save_space(notebook)
        lead_on(notebook, links_at_end(path, notebooks))
        if not is_room(path): test_solutions(notebook, path.name)
        if nb2str(notebook) != path.read_text(encoding='utf-8'): write_nb(notebook, path)
        wrong += [f'nbs/{path.name}: {flaw}' for flaw in flaws(notebook, path)]
    path = ROOT/'nbs'/'index.ipynb'
    index = read_nb(path)
    list_in_index(index, notebooks)
    if nb2str(index) != path.read_text(encoding='utf-8'): write_nb(index, path)
    text = '\n'.join(cell.source for cell in index.cells)
    wrong += [f'nbs/index.ipynb: {flaw}' for flaw in dead_links(text, path)]
    wrong += layer_flaws(notebooks)
    if wrong: sys.exit('\n'.join(wrong))


if __name__ == '__main__': main()
