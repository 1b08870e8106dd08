"""Use the studio in a real browser: JupyterLab on the loopback, Debian's Chromium, Playwright.

    python tools/browser_test.py --screenshots DIR      # keep what was seen

It opens a notebook, trains 30 steps, pauses, goes on, branches, moves sliders, votes and exports, and fails if the page
does not show what it should or if the browser's console has an error. Without Chromium or Playwright it says so in
one line, with status 0.
"""
import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

CELLS = ['from dreambooth_nb import studio\nroom = studio(output_dir="boot")\nroom']
CHROMIUM = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync']
HARMLESS = ('favicon', 'ResizeObserver', 'Failed to load resource', 'WebSocket')    # of JupyterLab itself


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
def jupyter(folder):
    "Run JupyterLab in a folder; yield its address."
    port = free_port()
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--ServerApp.port={port}',
               '--IdentityProvider.token=', '--ServerApp.disable_check_xsrf=True', f'--ServerApp.root_dir={folder}',
               '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.news_url=None']
    with open(folder/'server.log', 'w') as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder,
                                  env=os.environ | dict(JUPYTER_CONFIG_DIR=str(folder/'.jupyter'), OMP_NUM_THREADS='1'))
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f'http://127.0.0.1:{port}/api', timeout=2)
                    break
                except OSError: time.sleep(.5)
            else: raise SystemExit(f'JupyterLab did not start:\n{(folder/"server.log").read_text()[-2000:]}')
            yield f'http://127.0.0.1:{port}'
        finally:
            server.terminate()
            server.wait(20)


class Visit:
    "A page with the studio, and what was clicked on it."
    def __init__(self, page, screenshots):
        self.page, self.screenshots, self.errors, self.done = page, screenshots, [], []
        page.on('console', lambda m: m.type == 'error' and self.errors.append(m.text))
        page.on('pageerror', lambda e: self.errors.append(str(e)))

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

    def see(self, text, seconds=120):
        self.page.get_by_text(text).first.wait_for(state='visible', timeout=1000*seconds)
        self.say(f'saw: {text}')

def use(visit, address):
    "Do what a user would."
    page = visit.page
    page.goto(f'{address}/lab/tree/studio.ipynb')
    page.locator('.jp-Notebook .jp-Cell').first.wait_for(timeout=90_000)
    page.get_by_text('| Idle').first.wait_for(timeout=90_000)     # the kernel is there
    page.wait_for_timeout(1000)
    page.locator('.jp-Notebook .cm-content').first.click()
    page.keyboard.press('Shift+Enter')
    visit.see('Use this photo', 180)
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
    visit.press('step 10')
    visit.see('Go on from step 10')
    visit.shoot('branch')
    visit.press('Branch from here')
    visit.see('boot-2: done, step 30/30', 300)
    page.wait_for_timeout(1500)
    visit.shoot('branched')
    visit.tab('Pictures')
    page.wait_for_timeout(8000)
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
    for width in (800, 1600):
        page.set_viewport_size(dict(width=width, height=1000))
        for title in ('Photos', 'Settings', 'Training', 'Pictures'):
            visit.tab(title)
            page.wait_for_timeout(700)
            visit.shoot(f'{title.lower()}-{width}')

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--screenshots', type=Path, help='folder for PNG files of what was seen')
    parser.add_argument('--dark', action='store_true', help="JupyterLab's dark theme")
    arguments = parser.parse_args()
    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    try: from playwright.sync_api import sync_playwright
    except ImportError: chromium = None
    if not chromium: return print('browser test: left out, since there is no Chromium or no playwright')
    if arguments.screenshots: arguments.screenshots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = Path(folder)
        write_notebook(folder/'studio.ipynb')
        preferences = folder/'.jupyter/lab/user-settings/@jupyterlab/apputils-extension'
        preferences.mkdir(parents=True)
        (preferences/'notification.jupyterlab-settings').write_text('{"fetchNews": "false"}')
        theme = 'JupyterLab Dark' if arguments.dark else 'JupyterLab Light'
        (preferences/'themes.jupyterlab-settings').write_text(json.dumps(dict(theme=theme)))
        with jupyter(folder) as address:
            browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
            visit = Visit(browser.new_page(viewport=dict(width=1280, height=1000)), arguments.screenshots)
            try: use(visit, address)
            except Exception:
                visit.shoot('failed')
                raise
            errors = [e for e in visit.errors if not any(word in e for word in HARMLESS)]
            browser.close()
    if errors: sys.exit('errors in the console of the browser:\n' + '\n'.join(errors))
    print(f'browser test: {len(visit.done)} steps, no error in the console')


if __name__ == '__main__': main()
