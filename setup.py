"Build the package from settings.ini (nbdev 3 itself reads pyproject.toml only)."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
with open(here/'settings.ini', encoding='utf-8') as f: config.read_file(f)  # read() is silent about a missing file
settings = config['DEFAULT']
repository = settings['repository'].strip()
extras = [key.removesuffix('_requirements') for key in settings if key.endswith('_requirements')]

setup(
    name=settings['lib_name'], version=settings['version'], description=settings['description'],
    keywords=settings['keywords'].split(), author=settings['author'],
    url=f'https://github.com/{repository}' if repository else None,
    license_expression=settings['license'], license_files=['LICENSE'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    classifiers=[
        'Development Status :: 3 - Alpha', 'Intended Audience :: Education', 'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3 :: Only', 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    packages=find_packages(include=[settings['lib_name'], settings['lib_name'] + '.*']),
    package_data={settings['lib_name']: ['models/**/*']},  # the embedded model and its judge
    python_requires='>=' + settings['min_python'],
    install_requires=settings['requirements'].split(),
    extras_require={extra: settings[f'{extra}_requirements'].split() for extra in extras},
    entry_points={'console_scripts': ['dreambooth = dreambooth_nb.cli:main'],
                  'nbdev': [f"{settings['lib_name']} = {settings['lib_name']}._modidx:d"]},
)
