"""How often the embedded author is right: 500 fresh scenes, and the photos of the bundled subjects.

    python benchmarks/author.py             # prints a table in Markdown; a minute or two

Free: the likeliest words, whatever they are. Constrained: only words with which the text can still become JSON of the
schema (llguidance, the extra `author`). Class, colour and place are compared with what was drawn; of a bundled
subject, whose colours have no word, the rest. `all` is kind, colour and place together.
"""
import argparse
import json
import random

from dreambooth_nb.author import Description, photo_messages
from dreambooth_nb.drawing import render
from dreambooth_nb.language_models import answer_schema, transformers_model
from dreambooth_nb.toyland import CONTEXTS, SUBJECTS, sample_scene, subject_scenes

COLUMNS = 'kind', 'colour', 'pattern', 'place', 'clothes'


def replies(model, scenes, schema):
    "Ask about each photo; None for what is no JSON with the three fields."
    found = []
    for scene in scenes:
        text = ''.join(model(photo_messages(render(scene), None), schema, max_new_tokens=80))
        try:
            reply = json.loads(text)
            assert [*reply] == ['class_noun', 'appearance', 'surroundings']
        except (ValueError, AssertionError): reply = None
        found.append(reply)
    return found

def facts(scene, reply):
    "Say which facts of a scene are in a reply."
    if reply is None: return {}
    found = dict(kind=reply['class_noun'] == scene.look.class_noun,
                 pattern=[scene.look.pattern] == (reply['appearance'].split()[1:] or ['plain']),
                 place=reply['surroundings'].endswith(CONTEXTS[scene.context]),
                 clothes=('wearing' in reply['surroundings']) == (scene.accessory != 'none'))
    if scene.look.colour_name: found['colour'] = scene.look.colour_name in reply['appearance'].split()
    return found

def shares(found):
    "Return how often replies were valid, how often each fact was right, and how often kind, colour and place together."
    def share(names):
        if not all(name in one for one in found if one for name in names): return ''    # colours without a word
        return f'{sum(bool(one) and all(one[name] for name in names) for one in found)/len(found):.1%}'
    return [share([]), *(share([name]) for name in COLUMNS), share(['kind', 'colour', 'place'])]

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--model', default='toyland-author', help='or a folder')
    parser.add_argument('--scenes', type=int, default=500)
    arguments = parser.parse_args()
    model, rng = transformers_model(arguments.model), random.Random(500)
    fresh = [sample_scene(rng) for _ in range(arguments.scenes)]
    known = [scene for name in SUBJECTS for scene in subject_scenes(name, 5)]
    schema = answer_schema(Description, None)
    print(f"| photos | decoding | n | valid | {' | '.join(COLUMNS)} | all |\n|---|---|{'---:|'*8}")
    for name, scenes in (('fresh', fresh), ('bundled subjects', known)):
        for decoding, grammar in (('free', None), ('constrained', schema)):
            found = [facts(scene, reply) for scene, reply in zip(scenes, replies(model, scenes, grammar))]
            print(f'| {name} | {decoding} | {len(found)} | {" | ".join(shares(found))} |', flush=True)

if __name__ == '__main__': main()
