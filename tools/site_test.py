"""Look at the website that tools/site.py made: `python tools/site_test.py DIR`.

First without a browser: every link, anchor, picture and script is there, nothing is loaded from elsewhere, no cell
shows what is for the tools. Then, where there is a Chromium and Playwright, every page is opened at the width of a
phone and of a desk: no request leaves this machine, the console has no error, every picture has loaded, nothing is
wider than the page, sliders over stored images obey keys and touch. `--screenshots DIR` keeps what was seen, and
`--pages 06_prior api/prior` looks at these alone.
"""
import argparse
import re
import shutil
import sys
import threading
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

CHROMIUM = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync']
WIDTHS = dict(phone=390, desk=1280)
LOADED = {'script': 'src', 'img': 'src', 'source': 'src', 'video': 'src', 'iframe': 'src', 'link': 'href'}
FOR_TOOLS = re.compile(r'\A#\||\[ -e /content \]|tools/solutions\.py')    # directives begin a cell


# without a browser

class Page(HTMLParser):
    "What a page links to, what it loads, the anchors that it has, and its code."
    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors, self.code, self.unnamed, self.is_code = [], [], set(), [], [], False
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[key] for key in ('id', 'name') if given.get(key)}
        if tag == 'a' and given.get('href'): self.links.append(given['href'])
        if tag in LOADED and given.get(LOADED[tag]): self.loads.append(given[LOADED[tag]])
        if tag == 'img' and 'alt' not in given: self.unnamed.append(given.get('src'))
        if tag == 'pre': self.is_code = not self.code.append('')

    def handle_endtag(self, tag):
        if tag == 'pre': self.is_code = False

    def handle_data(self, data):
        if self.is_code: self.code[-1] += data


def flaws(folder):
    "Yield what is wrong with a site's files, one line each."
    pages = {path: Page(path) for path in sorted(folder.rglob('*.html')) if '_static' not in path.parts}
    if not pages: yield f'{folder}: has no page'
    for path, page in pages.items():
        name = path.relative_to(folder)
        for address in page.loads:
            if urlsplit(address).scheme not in ('', 'data') or address.startswith('//'):
                yield f'{name}: loads {address}'
        for address in [*page.links, *page.loads]:
            if lost := lacks(address, path, folder, pages): yield f'{name}: {lost}'
        yield from (f'{name}: shows {said[:60]!r}' for said in page.code if FOR_TOOLS.search(said))
        yield from (f'{name}: says nothing of the picture {address}' for address in page.unnamed)


def lacks(address, path, folder, pages):
    "Say what a link within the site leads to that is not there."
    if urlsplit(address).scheme or address.startswith('//'): return None
    place, anchor = urldefrag(address)
    place = unquote(place.partition('?')[0])
    target = (path.parent/place).resolve() if place else path
    if target.is_dir(): target = target/'index.html'
    if not target.is_relative_to(folder) or not target.is_file(): return f'{address} is not there'
    if anchor and target in pages and unquote(anchor) not in pages[target].anchors: return f'{address}: no such place'
    return None


# in a browser

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words): pass


@contextmanager
def served(folder):
    "Serve a folder on the loopback; yield its address."
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}'
    finally: server.shutdown()


SEEN = '''() => {
    const wrong = [];
    for (const image of document.images) {
        image.loading = 'eager';
        if (!image.complete || !image.naturalWidth) wrong.push(`picture not loaded: ${image.src}`);
    }
    const wide = document.documentElement.scrollWidth;
    if (wide > window.innerWidth + 1) wrong.push(`is ${wide} pixels wide in a window of ${window.innerWidth}`);
    for (const failed of document.querySelectorAll('mjx-merror')) wrong.push(`formula: ${failed.textContent}`);
    if (document.querySelector('.math') && !document.querySelector('mjx-container')) wrong.push('formulas not set');
    return wrong;
}'''
PLACE = 'image => image.style.backgroundPosition'
LOAD_ALL = '''() => Promise.all([...document.images].map(image => {
    image.loading = 'eager';
    return image.decode().catch(() => 0);
}))'''


class Visitor:
    "A browser's page that refuses to leave this machine, and what was wrong on it."
    def __init__(self, page, address):
        self.page, self.address, self.errors, self.where = page, address, [], ''
        page.on('console', lambda said: said.type == 'error' and self.wrong(said.text))
        page.on('pageerror', lambda error: self.wrong(str(error)))
        page.on('response', lambda answer: answer.status >= 400 and self.wrong(f'{answer.status} for {answer.url}'))
        page.route(lambda url: url.startswith('http') and not url.startswith(address), self.refuse)

    def wrong(self, what): self.errors.append(f'{self.where}: {what}')

    def refuse(self, route):
        self.wrong(f'asks for {route.request.url}')
        route.abort()

    def open(self, name, width, shot=None):
        "Open a page and look at it."
        self.where = f'{name} at {width}'
        self.page.goto(f'{self.address}/{name}', wait_until='load')
        self.page.evaluate(LOAD_ALL)
        if self.page.locator('.math').count(): self.page.wait_for_function('window.MathJax?.startup?.promise')
        self.page.evaluate('() => window.MathJax?.startup?.promise')
        for found in self.page.evaluate(SEEN): self.wrong(found)
        for box in self.page.locator('.explorable').all(): self.explore(box)
        if shot: self.page.screenshot(path=str(shot), full_page=True)

    def explore(self, box):
        "Move each slider by key, and then to its end by touch or by mouse: the first image must change each time."
        for slider in box.locator('input').all():
            for move in (self.press_key, self.touch_end):
                before = box.locator('.explorable-image').first.evaluate(PLACE)
                move(slider)
                if box.locator('.explorable-image').first.evaluate(PLACE) == before:
                    self.wrong(f'the slider {slider.get_attribute("aria-label")} moves nothing')

    def press_key(self, slider): slider.press('ArrowRight')

    def touch_end(self, slider):
        size = slider.bounding_box()
        at = dict(position=dict(x=size['width'] - 4, y=size['height']/2))
        slider.tap(**at) if self.page.evaluate("'ontouchstart' in window") else slider.click(**at)


def search(visitor):
    "Look for a word, as a reader does."
    visitor.where = 'search'
    visitor.page.goto(f'{visitor.address}/search.html?q=prior')
    visitor.page.locator('#search-results li a').first.wait_for(timeout=60_000)
    return visitor.page.locator('#search-results li').count()


def looked_at(folder, names, shots, is_dark=False):
    "Open pages in a browser at both widths; return the errors, or None if there is no browser."
    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    try: from playwright.sync_api import sync_playwright
    except ImportError: chromium = None
    if not chromium: return None
    errors = []
    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        for size, width in WIDTHS.items():
            page = browser.new_page(viewport=dict(width=width, height=900), has_touch=size == 'phone',
                                    color_scheme='dark' if is_dark else 'light')
            page.set_default_timeout(120_000)       # the screenshot of a long page, on a busy machine
            visitor = Visitor(page, address)
            for name in names:
                visitor.open(name, width, shots and shots/f'{name.replace("/", "-")}-{size}.png')
            errors += visitor.errors
            print(f'{len(names)} pages at {width} pixels: {len(visitor.errors)} errors', flush=True)
        if not (found := search(visitor)): errors.append("search: nothing found for 'prior'")
        browser.close()
        print(f"search: {found} results for 'prior'")
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder', type=Path, help='what tools/site.py wrote')
    parser.add_argument('--screenshots', type=Path, help='folder for PNG files of whole pages')
    parser.add_argument('--pages', nargs='+', help="names without .html, such as 06_prior; otherwise all")
    parser.add_argument('--dark', action='store_true', help='in dark colours')
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if found := list(dict.fromkeys(flaws(folder))): sys.exit('\n'.join(found))
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob('*.html') if '_static' not in path.parts)
    print(f'{len(names)} pages: every link, place, picture and script is there, nothing comes from elsewhere')
    if arguments.pages: names = [f'{name}.html' for name in arguments.pages]
    if arguments.screenshots: arguments.screenshots.mkdir(parents=True, exist_ok=True)
    errors = looked_at(folder, names, arguments.screenshots, arguments.dark)
    if errors is None: return print('site test: no browser, since there is no Chromium or no playwright')
    if errors: sys.exit('\n'.join(errors))


if __name__ == '__main__': main()
