"""Make the book's website from the notebooks as they are saved: `python tools/site.py --output DIR`.

Nothing is executed and nothing is fetched: Sphinx with myst-nb shows the saved outputs, the theme brings its scripts
and fonts along, and MathJax is copied from a package (the extra `site` of settings.ini has all of them). A page has no
cell with `#| hide`, no directive of nbdev's and no install cell; names of modules lead to the reference, which
tools/site_api.py writes, and sliders over stored images come from tools/explorables.py. A broken link between pages is
an error. `python tools/site_test.py DIR` looks at the result.
"""
import argparse
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import book
import explorables
import site_api
from fastcore.nbio import nb2dict, read_nb

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT/'nbs'
FILES = ROOT/'tools'/'site_files'    # style and script
DOCUMENTS = {'CONTRIBUTING.md': 'contributing', 'CHANGELOG.md': 'changes', 'SECURITY.md': 'security',
             'RELEASING.md': 'releasing'}
# MathJax 3.2.2 as it is on npm: whoever changes the package does not reach our readers
MATHJAX = '0a6ded5abbce13331658dd239f34382abd06492c74b71b61e8caa8112ec55fa5'


# what a reader sees of a notebook

def shown(notebook, names):
    "Take out of a notebook what is for the tools, in place; `names` are the places that backticked names lead to."
    cells, heading = [], ''
    for cell in notebook.cells:
        if cell.cell_type == 'raw' or book.has_flag(cell, 'hide') or '[ -e /content ]' in cell.source: continue
        if cell.cell_type == 'markdown':
            cell.source = as_page(cell.source, names)
            heading = (re.findall(r'^#+ (.*)', cell.source, re.M) or [heading])[-1]
        else: as_shown_code(cell, heading)
        if cell.source.strip(): cells.append(cell)
    notebook.cells = cells
    notebook.metadata = dict(kernelspec=book.KERNEL['kernelspec'],
                             language_info=dict(name='python', pygments_lexer='ipython3'))


def as_shown_code(cell, heading):
    "Drop directives and empty outputs of a code cell, in place; say in words what its pictures are of."
    cell.source = re.sub(r'\A(?:#\|.*\n?|\s*\n)+', '', cell.source).rstrip()
    cell.outputs = [out for out in cell.outputs if out.output_type in ('stream', 'error') or out.get('data')]
    last = next((line.strip() for line in reversed(cell.source.split('\n')) if line.strip()), '')
    cell.metadata = dict(mystnb=dict(image=dict(alt=f'{heading}: what {last} shows')))


def as_page(text, names):
    "Rewrite a cell's text: no badge, links to the reference, and Previous/Next left to the page's own buttons."
    if text.startswith(book.BADGE): return ''
    text = re.sub(r'(?:Previous|Next): \[[^\]]*\]\([^)]*\)\.\s*', '', text)
    parts = re.split(r'(```.*?```)', text, flags=re.S)      # what is fenced stays as it is
    return ''.join(part if part.startswith('```') else with_links(part, names) for part in parts)


def with_links(text, names):
    "Let the full name of a module or of what is in it lead to the reference."
    def linked(match): return f'[{match[0]}](#{names[match[1]]})' if match[1] in names else match[0]
    return re.sub(rf'(?<!\[)`{book.PACKAGE}\.([\w.]+)`', linked, text)


# the source of the site

def copy_notebooks(notebooks, names, to):
    "Write what a reader sees of each notebook, its number before its title, and the pictures."
    for path, notebook in notebooks.items():
        number, head = title(path, notebook)
        shown(notebook, names)
        first = notebook.cells[0]
        if path.stem != 'index': first.source = first.source.replace(head, f'{number} {head}', 1)
        explorables.add_explorables(path.name, notebook)
        (to/path.name).write_text(json.dumps(nb2dict(notebook)), encoding='utf-8')
    for folder in ('images', 'logs'):
        shutil.copytree(NBS/folder, to/folder, ignore=shutil.ignore_patterns('*.csv', '*.webp'))


def copy_documents(to):
    "Write the documents of the repository as pages: links to notebooks and to each other lead to pages."
    for name, page in DOCUMENTS.items():
        text = (ROOT/name).read_text(encoding='utf-8').replace('](nbs/', '](')
        for other, its in DOCUMENTS.items(): text = text.replace(f']({other})', f']({its}.md)')
        (to/f'{page}.md').write_text(text, encoding='utf-8')


def write_reference(notebooks, to):
    "Write the pages of the API reference; return the places that names lead to."
    import dreambooth_nb
    made_in = {}
    for path, notebook in notebooks.items():
        if module := book.module_of(notebook):
            made_in.setdefault(module, []).append((path.name, ' '.join(title(path, notebook))))
    (to/'api').mkdir()
    names = {}
    for module, its in made_in.items():
        text, places = site_api.page(module, its)
        (to/'api'/f'{module}.md').write_text(text, encoding='utf-8')
        names |= places
    public = {name: module for name, module in dreambooth_nb._MODULES.items() if f'{module}.{name}' in names}
    (to/'api'/'index.md').write_text(site_api.index(made_in, public), encoding='utf-8')
    return names


def title(path, notebook):
    "Return a notebook's number and title."
    return path.name.split('_')[0], book.title_of(notebook).splitlines()[0][2:]


def contents(pages, caption=None):
    "Write a hidden table of contents."
    head = [f':caption: {caption}'] if caption else []
    return '\n'.join(['```{toctree}', ':hidden:', *head, *pages, '```'])


def add_contents(notebooks, table, to):
    "Write the tables of contents: lessons in the order of reading, then rooms, reference and documents."
    lessons = [path for path in notebooks if path.stem != 'index' and not book.is_room(path)]
    rooms = [path for path in notebooks if path.stem != 'index' and book.is_room(path)]
    parts = [contents([path.stem for path in lessons if book.number_of(path) <= book.PATH], 'Lessons'),
             contents([path.stem for path in lessons if book.number_of(path) > book.PATH], 'The tool'),
             contents(['rooms', 'api/index'], 'To build on'), contents(DOCUMENTS.values(), 'The project')]
    index = json.loads((to/'index.ipynb').read_text(encoding='utf-8'))
    index['cells'].append(dict(cell_type='markdown', id='contents', metadata={}, source='\n\n'.join(parts)))
    (to/'index.ipynb').write_text(json.dumps(index), encoding='utf-8')
    text = ('# Rooms\n\nA room holds a part of the library, with the checks that keep it right. Nobody reads them in '
            'one go; every lesson links to its own.\n\n')
    (to/'rooms.md').write_text(f'{text}{table}\n\n{contents(path.stem for path in rooms)}\n', encoding='utf-8')


def copy_static(to):
    "Copy MathJax with its fonts, style, script and sheets; make the picture in a browser's tab."
    from dreambooth_nb import Subject
    found = importlib.util.find_spec('sphinx-mathjax-offline')
    if found is None: sys.exit("MathJax is not here: pip install -e '.[site]'")
    source = Path(found.origin).parent/'static'/'mathjax'
    if hashlib.sha256((source/'tex-chtml.js').read_bytes()).hexdigest() != MATHJAX:
        sys.exit(f'{source}/tex-chtml.js is not that of MathJax 3.2.2')
    for name in ('tex-chtml.js', 'a11y/assistive-mml.js', 'output/chtml/fonts/woff-v2'):
        place = to/'_static'/'mathjax'/name
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (source/name).is_dir() else shutil.copy)(source/name, place)
    for path in [*FILES.iterdir(), *explorables.SHEETS]: shutil.copy(path, to/'_static')
    Subject.toyland('teal_dog').images[0].save(to/'_static'/'icon.png')


# Sphinx

def configuration(version, repository):
    "Return Sphinx's settings."
    options = dict(logo=dict(text='dreambooth_nb'), home_page_in_toc=True, show_navbar_depth=1, navigation_depth=3,
                   show_toc_level=2, use_download_button=False, use_fullscreen_button=False,
                   navbar_start=[], navbar_center=[], navbar_end=[], navbar_persistent=[],
                   pygments_light_style='a11y-high-contrast-light', pygments_dark_style='a11y-high-contrast-dark')
    if repository:
        options |= dict(repository_url=f'https://github.com/{repository}', path_to_docs='nbs', repository_branch='main',
                        use_repository_button=True, use_issues_button=True,
                        launch_buttons=dict(colab_url='https://colab.research.google.com'))
    return dict(
        project='dreambooth_nb', author='dreambooth_nb contributors', version=version, release=version,
        copyright='the dreambooth_nb contributors, Apache-2.0', language='en',
        extensions=['myst_nb', 'sphinx_book_theme'],
        html_theme='sphinx_book_theme', html_title=f'dreambooth_nb {version}', html_theme_options=options,
        html_static_path=['_static'], html_context=dict(default_mode='auto'), html_css_files=['site.css'],
        html_js_files=[('explore.js', dict(defer='defer'))], html_favicon='_static/icon.png',
        html_logo='_static/icon.png', html_copy_source=False, html_show_sourcelink=False, html_show_sphinx=False,
        html_last_updated_fmt=None, add_module_names=False, toc_object_entries=False,
        nb_execution_mode='off', nb_merge_streams=True, nb_ipywidgets_js={},
        myst_enable_extensions=['dollarmath', 'amsmath', 'deflist', 'colon_fence'], myst_dmath_double_inline=True,
        mathjax_path='mathjax/tex-chtml.js',
        mathjax3_config=dict(options=dict(enableMenu=False), loader=dict(load=['a11y/assistive-mml'])))


def build(source, output, settings):
    "Run Sphinx; return what it warns of."
    from sphinx.application import Sphinx
    from sphinx.util.console import nocolor
    from sphinx.util.docutils import docutils_namespace
    nocolor()
    warnings = io.StringIO()
    with docutils_namespace(), tempfile.TemporaryDirectory() as doctrees:
        app = Sphinx(srcdir=source, confdir=None, outdir=output, doctreedir=doctrees, buildername='html',
                     confoverrides=settings, status=None, warning=warnings, freshenv=True,
                     parallel=os.cpu_count() or 1)
        app.build(force_all=True)
    return warnings.getvalue()


@contextmanager
def stopwatch(what):
    began = time.perf_counter()
    yield
    print(f'{what}: {time.perf_counter() - began:.0f} s', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=Path, required=True, help='folder for the site; what is in it is replaced')
    output = parser.parse_args().output.resolve()
    if output.exists() and any(output.iterdir()) and not (output/'objects.inv').exists():
        sys.exit(f'--output {output}: has files and is no site; give another folder')
    shutil.rmtree(output, ignore_errors=True)
    _, repository = book.settings()
    notebooks = {path: read_nb(path) for path in sorted(NBS.glob('*.ipynb'))}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        with stopwatch('sources, and the reference from docments'):
            names = write_reference(notebooks, source)
            rooms = [path for path in notebooks if book.is_room(path)]
            table = book.table_of(rooms, notebooks, '| room | what is in it |\n|---|---|')
            copy_notebooks(notebooks, names, source)
            copy_documents(source)
            add_contents(notebooks, table, source)
            copy_static(source)
        from dreambooth_nb import __version__
        with stopwatch('Sphinx'): warnings = build(source, output, configuration(__version__, repository))
    if warnings.strip(): sys.exit(warnings.replace(str(source), 'nbs'))
    print(f'{len([page for page in output.rglob("*.html") if "_static" not in page.parts])} pages in {output}')


if __name__ == '__main__': main()
