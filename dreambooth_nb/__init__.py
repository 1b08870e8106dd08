"""DreamBooth as a book that runs.

Importing the package loads nothing else: each name below brings in its module, and torch, when it is first used.
"""
import sys
from importlib import import_module
from types import ModuleType

_MODULES = {  # public name -> the module that defines it
    'Subject': 'subject', 'Plan': 'plan', 'author': 'author',
    'SUBJECTS': 'toyland', 'Scene': 'toyland', 'render': 'drawing',
    'load_pipeline': 'opening', 'save_pipeline': 'saving',
    'photo_notes': 'photo_board', 'write_photos': 'photo_board',
    'endpoint_model': 'language_models', 'transformers_model': 'language_models',
    'find_identifiers': 'identifiers', 'class_images': 'prior_images', 'forecast_memory': 'memory',
    'forecast_seconds': 'duration',
    'TrainingConfig': 'config', 'train': 'training', 'run_training': 'training', 'plot_history': 'history',
    'generate': 'sampling', 'Sampling': 'sampling', 'generate_to': 'generation', 'Job': 'generation',
    'image_to_image': 'generation', 'latent_walk': 'generation', 'describe': 'describe',
    'demo': 'evaluation', 'evaluate': 'evaluation',
    'load_judge': 'judge', 'toyland_panel': 'judge', 'photo_panel': 'measures',
    'load_lora': 'lora_files', 'write_card': 'publishing', 'push_to_hub': 'publishing',
    'studio': 'studio',
    'attention_maps': 'attention', 'image_attention_maps': 'attention', 'attention_figure': 'attention'}
__all__ = [*_MODULES, '__version__']

def __getattr__(name):
    if name == '__version__':
        from importlib.metadata import version  # settings.ini is the only place that states it
        value = version(__name__)
    elif name in _MODULES: value = getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)
    else: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = value  # next time Python finds it without asking
    return value

class _Package(ModuleType):
    "A package whose functions keep their names when a module of the same name (`describe`, `studio`) is imported."
    def __setattr__(self, name, value):
        if name not in _MODULES or not isinstance(value, ModuleType): super().__setattr__(name, value)

sys.modules[__name__].__class__ = _Package

def __dir__(): return sorted({*globals(), *__all__})
