"""Use the studio in a real browser: JupyterLab and Voila on the loopback, Debian's Chromium, Playwright.

    python tools/browser_test.py --screenshots DIR      # keep what was seen

It opens a notebook, moves a slider, trains 30 steps, pauses, goes on, branches, votes and exports, then trains in the
same notebook as a page of Voila. It fails if a page does not show what it should or if the browser's console has an
error. What is not installed (Chromium, Playwright, Voila) is left out, with one line and status 0.
"""
import argparse
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

CELLS = [
    'from PIL import Image\nfrom dreambooth_nb.exploring import explore\n'
    'explore(lambda red: Image.new("RGB", (200, 40), (red, 0, 0)), red=[0, 85, 170, 255])',
    'from dreambooth_nb import studio\nroom = studio(output_dir="boot")\nroom']
CHROMIUM = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync']
HARMLESS = ('favicon', 'ResizeObserver', 'Failed to load resource', 'WebSocket')    # of JupyterLab itself
ALLOWED = ('fontawesome-free',)     # icons that Voila's own template asks a CDN for; without them buttons have words


def write_notebook(path):
    "Write a notebook with the cells of this test."
    cells = [dict(cell_type='code', id=f'cell{i}', metadata={}, source=source, outputs=[], execution_count=None)
             for i, source in enumerate(CELLS)]
    kernel = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))
    path.write_text(json.dumps(dict(cells=cells, metadata=kernel, nbformat=4, nbformat_minor=5)), encoding='utf-8')

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

@contextmanager
def server(folder, what, *settings):
    "Run a program of Jupyter's in a folder; yield its address."
    port = free_port()
    settings = [setting.format(port=port, folder=folder) for setting in settings]
    surroundings = os.environ | dict(JUPYTER_CONFIG_DIR=str(folder/'.jupyter'), OMP_NUM_THREADS='1')
    with open(folder/'server.log', 'w') as log:
        running = subprocess.Popen([sys.executable, '-m', what, '--no-browser', *settings], stdout=log, stderr=log,
                                   cwd=folder, env=surroundings)
        try:
            wait_for(port, folder/'server.log')
            yield f'http://127.0.0.1:{port}'
        finally:
            running.terminate()
            running.wait(20)

def wait_for(port, log):
    "Wait until a server takes calls."
    for _ in range(240):
        with socket.socket() as s:
            if s.connect_ex(('127.0.0.1', port)) == 0: return
        time.sleep(.5)
    raise SystemExit(f'the server did not start:\n{log.read_text()[-2000:]}')

def jupyterlab(folder):
    return server(folder, 'jupyterlab', '--allow-root', '--ServerApp.port={port}', '--IdentityProvider.token=',
                  '--ServerApp.disable_check_xsrf=True', '--ServerApp.root_dir={folder}',
                  '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.news_url=None')

def voila(folder): return server(folder, 'voila', 'studio.ipynb', '--port={port}')


class Visit:
    "A page with the studio, and what was clicked on it."
    def __init__(self, page, screenshots):
        self.page, self.screenshots, self.errors, self.done = page, screenshots, [], []
        page.on('console', lambda m: m.type == 'error' and self.errors.append(m.text))
        page.on('pageerror', lambda e: self.errors.append(str(e)))
        page.route(lambda url: url.startswith('http') and not url.startswith('http://127.0.0.1'), self._refuse)

    def _refuse(self, route):
        "Let nothing leave this machine; who asks for it, is in the wrong."
        if not any(word in route.request.url for word in ALLOWED): self.errors.append(f'asks for {route.request.url}')
        route.abort()

    def say(self, what):
        self.done.append(what)
        print(f'{time.strftime("%X")} {what}', flush=True)

    def shoot(self, name):
        if self.screenshots: self.page.screenshot(path=str(self.screenshots/f'{name}.png'))

    def tab(self, title):
        self.page.locator('.lm-TabBar-tab', has_text=title).last.click()
        self.say(f'tab {title}')

    def press(self, label):
        self.page.get_by_role('button', name=label, exact=True).first.click()
        self.say(f'button {label}')

    def fill(self, label, value):
        box = self.page.get_by_label(label, exact=True).first
        box.fill(value)
        box.press('Enter')
        box.blur()
        self.say(f'{label} = {value}')

    def slide(self, label, key):
        "Move a slider from the keyboard, and wait for another image."
        row = self.page.locator(f'.widget-slider:has(> label:text-is("{label}"))').first
        images = 'Array.from(document.querySelectorAll("img")).map(image => image.src).join()'
        before = self.page.evaluate(images)
        row.locator('.noUi-handle').focus()
        self.page.keyboard.press(key)
        self.page.wait_for_function(f'before => {images} != before', arg=before, timeout=60_000)
        self.say(f"slider {label}: {key}, now {row.locator('.widget-readout').inner_text()}")

    def reach(self, words, tries=80):
        "Press Tab until what has these words has the focus."
        for _ in range(tries):
            self.page.keyboard.press('Tab')
            if self.page.evaluate('document.activeElement.innerText') == words: break
        else: raise SystemExit(f'{words}: cannot be reached by the Tab key')
        self.say(f'reached by key: {words}')

    def upload(self, path):
        "Give a photo to the page."
        with self.page.expect_file_chooser() as chosen: self.page.locator('.widget-upload').first.click()
        chosen.value.set_files(str(path))
        self.say(f'uploaded {path.name}')

    def reload(self):
        "Close the page and open it again, while the kernel goes on."
        self.page.keyboard.press('Control+s')
        self.page.wait_for_timeout(1500)
        self.page.reload()
        self.say('page closed and opened again')

    def see(self, text, seconds=120):
        self.page.get_by_text(text).first.wait_for(state='visible', timeout=1000*seconds)
        self.say(f'saw: {text}')

def open_in_lab(visit, address):
    "Open the notebook and run its cells."
    page = visit.page
    page.goto(f'{address}/lab/tree/studio.ipynb')
    page.locator('.jp-Notebook .jp-Cell').first.wait_for(timeout=90_000)
    page.get_by_text('| Idle').first.wait_for(timeout=90_000)     # the kernel is there
    page.wait_for_timeout(1000)
    page.locator('.jp-Notebook .cm-content').first.click()
    for _ in CELLS: page.keyboard.press('Shift+Enter')
    visit.see('Use this photo', 180)

def train(visit):
    "Look at the photos, choose settings, and train thirty steps with a pause."
    page = visit.page
    visit.slide('red', 'ArrowRight')
    visit.shoot('photos')
    visit.tab('Settings')
    visit.fill('Steps', '30')
    visit.fill('Class images', '8')
    page.get_by_text('All other settings').first.click()
    visit.fill('checkpointing_steps', '10')
    visit.see('GB in a training step', 120)
    visit.shoot('settings')
    visit.tab('Training')
    visit.press('Start')
    visit.see('boot: training, step', 240)
    visit.press('Pause')
    visit.see('boot: paused, step', 120)
    visit.shoot('paused')
    visit.press('Go on')
    visit.see('boot: done, step 30/30', 300)
    visit.shoot('trained')

def use_keys(visit):
    "Go to the panel of the training without a mouse."
    visit.see('Use this photo', 180)
    visit.reach('Photos')
    for key in ('ArrowRight', 'ArrowRight', 'Enter'): visit.page.keyboard.press(key)
    visit.reach('Start')

def compare(visit):
    "Branch, look, vote, export."
    page = visit.page
    visit.press('step 10')
    visit.see('Go on from step 10')
    visit.shoot('branch')
    visit.press('Branch from here')
    visit.reload()
    visit.see('boot-2: done, step 30/30', 300)
    page.wait_for_timeout(1500)
    visit.shoot('branched')
    visit.tab('Pictures')
    page.wait_for_timeout(8000)
    visit.slide('Guidance', 'ArrowRight')
    visit.slide('Seed', 'ArrowRight')
    visit.shoot('pictures')
    visit.press('Blind vote')
    visit.see('which is more the subject', 60)
    visit.press('Left')
    visit.press('Show the count')
    visit.see('no difference: 0')
    visit.press('Export')
    visit.see('wrote exported', 120)
    visit.shoot('exported')
    visit.tab('Code')
    visit.shoot('code')

def look_at_sizes(visit):
    "Keep every panel at a narrow and at a wide window."
    page = visit.page
    for width in (800, 1600):
        page.set_viewport_size(dict(width=width, height=1000))
        for title in ('Photos', 'Settings', 'Training', 'Pictures'):
            visit.tab(title)
            page.wait_for_timeout(700)
            visit.shoot(f'{title.lower()}-{width}')

def use_lab(visit, folder):
    with jupyterlab(folder) as address:
        open_in_lab(visit, address)
        train(visit)
        compare(visit)
        look_at_sizes(visit)
        visit.page.close()  # before its server ends, of which the page would complain

def use_voila(visit, folder):
    with voila(folder) as address:
        visit.page.goto(address, timeout=180_000, wait_until='commit')   # a page is sent as its cells are done
        use_keys(visit)
        train(visit)
        visit.tab('Pictures')
        visit.slide('Guidance', 'ArrowRight')
        visit.shoot('pictures')
        photo = folder/'mine.png'
        Image.effect_noise((80, 96), 90).convert('RGB').save(photo)
        visit.tab('Photos')
        visit.upload(photo)
        visit.see('mine.png')
        visit.shoot('uploaded')
        visit.page.close()

def prepare(folder, is_dark):
    "Write what a server needs: the notebook, the theme, no news from elsewhere."
    write_notebook(folder/'studio.ipynb')
    preferences = folder/'.jupyter/lab/user-settings/@jupyterlab/apputils-extension'
    preferences.mkdir(parents=True)
    (preferences/'notification.jupyterlab-settings').write_text('{"fetchNews": "false"}')
    theme = 'JupyterLab Dark' if is_dark else 'JupyterLab Light'
    (preferences/'themes.jupyterlab-settings').write_text(json.dumps(dict(theme=theme)))

def visited(browser, name, use, arguments):
    "Use a page; return what was done, and the errors of its console."
    shots = arguments.screenshots and arguments.screenshots/name
    if shots: shots.mkdir(parents=True, exist_ok=True)
    visit = Visit(browser.new_page(viewport=dict(width=1280, height=1000)), shots)
    visit.say(f'--- {name}')
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), arguments.dark)
        try: use(visit, Path(folder))
        except Exception:
            visit.shoot('failed')
            raise
    return len(visit.done), [e for e in visit.errors if not any(word in e for word in HARMLESS)]

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--screenshots', type=Path, help='folder for PNG files of what was seen')
    parser.add_argument('--dark', action='store_true', help="JupyterLab's dark theme")
    parser.add_argument('--only', choices=['lab', 'voila'], help='leave the other one out')
    arguments = parser.parse_args()
    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    try: from playwright.sync_api import sync_playwright
    except ImportError: chromium = None
    if not chromium: return print('browser test: left out, since there is no Chromium or no playwright')
    pages = {name: use for name, use in dict(lab=use_lab, voila=use_voila).items() if arguments.only in (None, name)}
    if 'voila' in pages and not importlib.util.find_spec('voila'):
        print('browser test: Voila left out, since it is not installed')
        del pages['voila']
    done, errors = 0, []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        for name, use in pages.items():
            steps, found = visited(browser, name, use, arguments)
            done, errors = done + steps, errors + found
        browser.close()
    if errors: sys.exit('errors in the console of the browser:\n' + '\n'.join(errors))
    print(f'browser test: {done} steps, no error in the console')


if __name__ == '__main__': main()
