"""Write the pages of the API reference from the modules' docments: used by tools/site.py.

A page for each module: its functions, classes and values, every parameter with the meaning, shape and unit that its
docment states, and what is refused: the `InputError`s that a function, or a private function that it calls, raises.
"""
import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path
from types import FunctionType

from fastcore.docments import docments

PACKAGE = 'dreambooth_nb'
LONGEST = 80    # characters of a default or of a value that are shown


def target(module, name=''):
    "Name the place of a module, or of what is in it, for links: these do not tell `Studio` from `studio`."
    if not name: return f'api-{module}'
    kind = '' if name.islower() else '-value' if name.isupper() else '-class'
    return f'api-{module}-{name.lower()}{kind}'


def shorten(text):
    "Put a piece of code on one line, and cut it off where it gets long."
    text = re.sub(r'\s+', ' ', text)
    return text if len(text) <= LONGEST else text[:LONGEST - 2].rstrip() + ' …'


def code(text): return f'`{text}`' if '`' not in text else f'`` {text} ``'


def tree_of(thing):
    "Parse the source of a function or a class; None if it has none."
    try: return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError): return None


# what is refused

def message(call):
    "Return what an InputError says, with the names of values in braces."
    if not call.args: return ''
    parts = call.args[0].values if isinstance(call.args[0], ast.JoinedStr) else [call.args[0]]
    words = []
    for part in parts:
        if isinstance(part, ast.Constant): words.append(str(part.value))
        elif isinstance(part, ast.FormattedValue): words.append(f'{{{ast.unparse(part.value)}}}')
        else: return ''
    return re.sub(r'\s+', ' ', ''.join(words)).strip()


def refusals(thing, module, seen=()):
    "List what a function refuses, in its own lines and in those of the private functions that it calls."
    tree, found = tree_of(thing), []
    for node in ast.walk(tree) if tree else ():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name): continue
        name = node.func.id
        if name == 'InputError': found.append(message(node))
        elif name.startswith('_') and name not in seen and inspect.isfunction(called := vars(module).get(name)):
            found += refusals(called, module, (*seen, name))
    return list(dict.fromkeys(filter(None, found)))


# functions, classes, values

def signature(tree, is_method=False):
    "Write the parameters of a function as in its definition, without annotations."
    given = tree.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [None]*(len(plain) - len(given.defaults)) + given.defaults
    words = [written(one, default) for one, default in zip(plain, defaults)]
    if is_method and words and words[0] in ('self', 'cls'): words.pop(0)
    if given.vararg: words.append(f'*{given.vararg.arg}')
    elif given.kwonlyargs: words.append('*')
    words += [written(one, default) for one, default in zip(given.kwonlyargs, given.kw_defaults)]
    if given.kwarg: words.append(f'**{given.kwarg.arg}')
    return ', '.join(words)


def written(parameter, default):
    return parameter.arg if default is None else f'{parameter.arg}={shorten(ast.unparse(default))}'


def alone(thing):
    "Copy a function without the one that it delegates to, whose docments are on another page."
    copy = FunctionType(thing.__code__, thing.__globals__, thing.__name__, thing.__defaults__, thing.__closure__)
    copy.__kwdefaults__, copy.__qualname__ = thing.__kwdefaults__, thing.__qualname__
    return copy


def parameters(tree, thing):
    "Yield name, annotation, default and docment of each parameter, and of what is returned."
    told = docments(alone(thing), full=True, returns=True)
    given = tree.args
    named = [*given.posonlyargs, *given.args]
    defaults = dict(zip([one.arg for one in reversed(named)], reversed(given.defaults)))
    defaults |= {one.arg: value for one, value in zip(given.kwonlyargs, given.kw_defaults) if value is not None}
    for one in [*named, *filter(None, [given.vararg]), *given.kwonlyargs]:
        if one.arg in ('self', 'cls'): continue
        yield one.arg, one.annotation, defaults.get(one.arg), (told.get(one.arg) or {}).get('docment')
    if other := getattr(thing, '__delwrap__', None):
        owner = (other.__qualname__ if inspect.isfunction(other) else type(other).__name__).removesuffix('.__init__')
        yield f'**{given.kwarg.arg}' if given.kwarg else '**settings', None, None, f'what `{owner}` takes'
    if tree.returns is not None and ast.unparse(tree.returns) != 'None':
        yield 'returns', tree.returns, None, (told.get('return') or {}).get('docment')


def entries(rows):
    "Write a list of definitions: name, annotation and default; meaning."
    lines = []
    for name, annotation, default, meaning in rows:
        head = f'*{name}*' if name == 'returns' else f'**{prose(name)}**'
        if annotation is not None: head += f' {code(shorten(ast.unparse(annotation)))}'
        if default is not None: head += f' = {code(shorten(ast.unparse(default)))}'
        lines += [head, f': {prose(meaning) or "—"}', '']
    return lines


def prose(text):
    "Write a docment as Markdown: what is in backticks stays, nothing else is a command."
    parts = re.split(r'(`[^`]+`)', text or '')
    return ''.join(part if part.startswith('`') else re.sub(r'([\\*_<>\[\]$|{}^~#])', r'\\\1', part)
                   for part in parts).replace('\n', ' ')


def docstring(thing):
    "Return what a thing says of itself: nothing where only what it replaces has a docstring."
    return prose(inspect.cleandoc(thing.__doc__ or ''))


def errors(thing, module):
    "Write what a function refuses."
    found = refusals(thing, module)
    return ['Refused with an `InputError`:', '', *(f'- {code(said)}' for said in found), ''] if found else []


def directive(kind, head, body, depth=3):
    fence = ':'*depth
    return [f'{fence}{{py:{kind}}} {head}', '', *body, fence, '']


def function(thing, name, module, kind='function', depth=3):
    "Write a function or a method."
    tree = tree_of(thing)
    said = docstring(thing)
    if not isinstance(tree, ast.FunctionDef): return directive(kind, name, [said, ''], depth)
    body = [said, '', *entries(parameters(tree, thing)), *errors(thing, module)]
    return directive(kind, f'{name}({signature(tree, kind == "method")})', body, depth)


def own_class(thing, name, module):
    "Write a class: the fields of a dataclass or the arguments of its `__init__`, and its public methods."
    body = [docstring(thing), ''] if not (thing.__doc__ or '').startswith(f'{name}(') else []
    init = vars(thing).get('__init__')
    if hasattr(thing, '__dataclass_fields__'): body += fields(thing)
    elif inspect.isfunction(init) and tree_of(init): body += entries(parameters(tree_of(init), init))
    if hook := vars(thing).get('__post_init__') or init: body += errors(hook, module)
    for key, member in vars(thing).items():
        member = getattr(member, 'fget', None) or getattr(member, '__func__', None) or member
        if key.startswith('_') or not inspect.isfunction(member): continue
        if (member.__module__ or '').startswith(PACKAGE): body += function(member, key, module, 'method')
    return directive('class', name, body, 4)


def fields(thing):
    "Write the fields of a dataclass."
    told, tree = docments(thing, full=True), tree_of(thing)
    rows = [(node.target.id, node.annotation, node.value, (told.get(node.target.id) or {}).get('docment'))
            for node in tree.body if isinstance(node, ast.AnnAssign)]
    return entries(row for row in rows if not row[0].startswith('_'))


def value(thing, name, sources):
    "Write a value: what kind it is, what the line that makes it says, its keys."
    said = re.search(rf'^{re.escape(name)}\b[^\n]*?=[^\n#]*(?:#\s*([^\n]*))?$', sources, re.M)
    body = [prose(said[1]), ''] if said and said[1] else []
    if isinstance(thing, (int, float, str, tuple, list, frozenset, set)) and len(repr(thing)) <= 4*LONGEST:
        body += [code(repr(thing)), '']
    elif isinstance(thing, dict): body += ['Keys: ' + ', '.join(code(shorten(repr(key))) for key in thing), '']
    return directive('data', name, [f'A value of type `{type(thing).__name__}`.', '', *body])


def page(name, notebooks):
    "Return a module's page, Markdown with directives of Sphinx's Python domain, and the places of what is on it."
    module = importlib.import_module(f'{PACKAGE}.{name}')
    sources = Path(module.__file__).read_text(encoding='utf-8')
    made_in = ', '.join(f'[{title}](../{path})' for path, title in notebooks)
    lines = [f'({target(name)})=', f'# {PACKAGE}.{name}', '', prose((module.__doc__ or '').strip()), '',
             f'Explained, and tested, in {made_in}.', '', f':::{{py:currentmodule}} {PACKAGE}.{name}', ':::', '']
    offered = [public for public in module.__all__ if public in vars(module)]     # no 'Class.method'
    for public in offered:
        thing = vars(module)[public]
        lines += [f'({target(name, public)})=', f'## {public}', '']
        if inspect.isclass(thing) and tree_of(thing): lines += own_class(thing, public, module)
        elif inspect.isfunction(inspect.unwrap(thing)): lines += function(inspect.unwrap(thing), public, module)
        else: lines += value(thing, public, sources)
    return '\n'.join(lines) + '\n', {name: target(name)} | {f'{name}.{one}': target(name, one) for one in offered}


def index(pages, public):
    "Return the first page of the reference: what `import dreambooth_nb` offers, and all modules."
    lines = ['# Reference', '',
             'Made from the modules\' docments. Each function is explained, and tested, in the notebook that its page '
             'names.', '', f'## What `from {PACKAGE} import …` offers', '']
    lines += [', '.join(f'[`{name}`](#{target(module, name)})' for name, module in public.items()), '']
    lines += ['## All modules', '', '| module | what is in it |', '|---|---|']
    for name in pages:
        claim = (importlib.import_module(f'{PACKAGE}.{name}').__doc__ or '').strip()
        lines.append(f'| [{name}](#{target(name)}) | {prose(claim)} |')
    return '\n'.join([*lines, '', '```{toctree}', ':hidden:', *(f'{name} <{name}>' for name in pages), '```', ''])
