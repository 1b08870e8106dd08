"""Print the lowest versions that settings.ini allows, for pip: `python tools/lowest.py [dev wandb metrics ...]`.

Without a name of an extra these are the versions of what the package itself needs. CI installs them and runs a
short job.
"""
import re
import sys
from configparser import ConfigParser
from pathlib import Path


def lowest(settings, extras=()):
    "Write the requirements with == for >=, a line each."
    texts = [settings[name] for name in ('requirements', *(f'{extra}_requirements' for extra in extras))]
    wanted = [line for text in texts for line in text.split()]
    if odd := [w for w in wanted if not re.fullmatch(r'[\w-]+>=[\w.]+', w)]:
        sys.exit(f'settings.ini: {odd[0]}: must be name>=version')
    return '\n'.join(w.replace('>=', '==') for w in wanted)


if __name__ == '__main__':
    config = ConfigParser(delimiters=['='])
    with open(Path(__file__).resolve().parents[1]/'settings.ini', encoding='utf-8') as f: config.read_file(f)
    print(lowest(config['DEFAULT'], sys.argv[1:]))
