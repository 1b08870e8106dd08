"""Draw the book's diagrams: `python tools/diagrams.py` writes nbs/images/*.svg.

Plain SVG from plain Python: boxes, arrows, texts, in one style. Each diagram stands on a light card of its own, so
that it can be read on a white page and on a dark one. A colour has one meaning everywhere: orange is trained, grey is
frozen, blue is an image or a tensor made of images, green is text, purple is a loss; white is a rule without weights.
The small images are files in tools/tiles, which `python tools/tiles.py` makes (it trains for a minute).
"""
import base64
import math
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TILES, IMAGES = ROOT/'tools'/'tiles', ROOT/'nbs'/'images'
INK, SOFT, LINE = '#1f2328', '#565e66', '#4a525a'
KINDS = dict(               # fill, border
    trained=('#fbe3b5', '#a85f00'),
    frozen=('#e4e7eb', '#5d6873'),
    data=('#d8ebf8', '#0072b2'),
    text=('#d5efe4', '#00714f'),
    loss=('#efdcea', '#96457a'),
    rule=('#ffffff', '#4a525a'),
    none=('none', 'none'),
)
MEANINGS = dict(trained='trained', frozen='frozen', data='images, latents', text='text', loss='loss',
                rule='rule without weights')


def number(value):
    "Write a number as short as it can be."
    return f'{value:.1f}'.removesuffix('.0')


def escape(text): return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


class Diagram:
    "A card to draw on; origin top left, units are pixels at the size of a page."
    def __init__(self, title, description, height, width=760):
        self.title, self.description, self.width, self.height, self.parts = title, description, width, height, []

    def add(self, part): self.parts.append(part)

    def text(self, x, y, text, size=14, anchor='middle', bold=False, colour=INK, italic=False):
        "Write one line; `y` is the middle of its height."
        style = f' font-size="{size}"'*(size != 14) + f' text-anchor="{anchor}"'*(anchor != 'middle')
        style += f' fill="{colour}"'*(colour != INK) + ' font-weight="bold"'*bold + ' font-style="italic"'*italic
        self.add(f'<text x="{number(x)}" y="{number(y + size*.35)}"{style}>{escape(text)}</text>')

    def lines(self, x, y, texts, size=14, anchor='middle', colour=INK, first_bold=False, leading=18):
        "Write several lines around a middle."
        top = y - leading*(len(texts) - 1)/2
        for i, text in enumerate(texts):
            self.text(x, top + leading*i, text, size, anchor, first_bold and i == 0, colour)

    def box(self, x, y, w, h, kind, *texts, size=14, bold=True, radius=7, dashed=False):
        "Draw a box with lines of text in its middle; the first is bold."
        fill, border = KINDS[kind]
        self.add(f'<rect x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}" rx="{radius}" '
                 f'fill="{fill}" stroke="{border}"' + ' stroke-dasharray="5 4"'*dashed + '/>')
        self.lines(x + w/2, y + h/2, texts, size, first_bold=bold)

    def line(self, *points, colour=LINE, width=1.7, dashed=False):
        "Draw a line through points."
        path = ' '.join(f'{number(x)},{number(y)}' for x, y in points)
        self.add(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{number(width)}"'
                 + ' stroke-dasharray="5 4"'*dashed + '/>')

    def arrow(self, *points, colour=LINE, width=1.7, dashed=False, head=9):
        "Draw an arrow through points."
        (x0, y0), (x1, y1) = points[-2:]
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0)/length, (y1 - y0)/length
        base = x1 - head*dx, y1 - head*dy
        self.line(*points[:-1], base, colour=colour, width=width, dashed=dashed)
        half = head*.45
        corners = [(x1, y1), (base[0] - half*dy, base[1] + half*dx), (base[0] + half*dy, base[1] - half*dx)]
        self.add(f'<polygon points="{" ".join(f"{number(x)},{number(y)}" for x, y in corners)}" fill="{colour}"/>')

    def dot(self, x, y, radius=4, colour=INK): self.add(
        f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{colour}"/>')

    def tile(self, name, x, y, size):
        "Place a small image, enlarged without smoothing."
        content = base64.b64encode((TILES/f'{name}.png').read_bytes()).decode()
        self.add(f'<image x="{number(x)}" y="{number(y)}" width="{size}" height="{size}" '
                 f'href="data:image/png;base64,{content}"/>')

    def legend(self, *kinds, y=None, x=None, **words):
        "Say what the colours mean, in a row at the bottom."
        meanings = MEANINGS | words
        widths = [len(meanings[kind])*7 + 48 for kind in kinds]
        x, y = x or (self.width - sum(widths))/2, y or self.height - 24
        for kind, width in zip(kinds, widths):
            fill, border = KINDS[kind]
            self.add(f'<rect x="{number(x)}" y="{y - 7}" width="18" height="14" rx="3" fill="{fill}" '
                     f'stroke="{border}"/>')
            self.text(x + 25, y, meanings[kind], 13, 'start', colour=SOFT)
            x += width

    def svg(self):
        "Return the diagram as SVG."
        w, h = self.width, self.height
        return '\n'.join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="14" text-anchor="middle" fill="{INK}" '
            'stroke-width="1.5" image-rendering="pixelated">',
            f'<title>{escape(self.title)}</title>', f'<desc>{escape(self.description)}</desc>',
            f'<rect x="1" y="1" width="{w - 2}" height="{h - 2}" rx="14" fill="#fbfbf9" '
            'stroke="#c4c8cc"/>', *self.parts, '</svg>', ''])


def dreambooth():
    d = Diagram('DreamBooth',
                'Photos of one subject with the prompt "a photo of sks dog", and class images that the model '
                'generated itself with the prompt "a photo of a dog", go through the same model. Each gives a '
                'loss; their sum trains the text encoder and the UNet. Afterwards "sks dog" is the subject, '
                'also in new places, and "a dog" is still any dog.', 640)
    for x, text in ((143, '1  What it learns from'), (400, '2  One model'), (635, '3  Two losses')):
        d.text(x, 27, text, 15, bold=True)
    for y, name, heading, prompt in (
            (48, 'photo', 'your photos of one subject', 'a photo of sks dog'),
            (252, 'class', 'images of its class', 'a photo of a dog')):
        d.box(20, y, 246, 168, 'data')
        d.text(143, y + 17, heading, 14)
        for i in range(3): d.tile(f'{name}-{i}', 31 + 77*i, y + 32, 70)
        d.box(42, y + 112, 202, 28, 'text', prompt, size=15)
    d.text(143, 203, 'sks: the identifier, dog: the class noun', 13, colour=SOFT)
    d.text(143, 407, 'generated once, before training', 13, colour=SOFT)
    d.box(330, 116, 140, 192, 'trained')
    for y, name in ((155, 'text_encoder'), (232, 'unet')):
        d.text(400, y, name, 16, bold=True)
    d.text(400, 178, 'reads the prompt', 13, colour=SOFT)
    d.lines(400, 264, ['predicts what noise', 'was added to the', 'images'], 13, colour=SOFT, leading=16)
    d.arrow((266, 150), (330, 150))
    d.arrow((266, 280), (330, 280))
    d.arrow((400, 308), (400, 385), (266, 385), dashed=True)
    d.text(408, 352, 'makes them', 13, 'start', colour=SOFT)
    d.box(545, 96, 180, 66, 'loss', 'instance loss', 'learn this subject')
    d.box(545, 252, 180, 66, 'loss', 'prior loss', 'keep the class')
    d.arrow((470, 150), (545, 130))
    d.arrow((470, 270), (545, 285))
    d.line((635, 162), (635, 252))
    d.box(534, 190, 202, 34, 'loss', '+ prior_loss_weight ×', size=14, bold=False)
    d.arrow((534, 207), (470, 207), colour=KINDS['trained'][1], width=2.4)
    d.text(502, 190, 'trains', 13, colour=KINDS['trained'][1])
    d.line((20, 440), (740, 440), colour='#c4c8cc', width=1.2)
    d.text(380, 462, 'After a few hundred steps', 15, bold=True)
    d.box(60, 484, 290, 28, 'text', 'a photo of sks dog in the snow', size=15)
    d.box(410, 484, 290, 28, 'text', 'a photo of a dog', size=15)
    for i in range(3):
        d.tile(f'sks-{i}', 60 + 99*i, 520, 92)
        d.tile(f'dog-{i}', 410 + 99*i, 520, 92)
    d.text(205, 624, 'the subject, in a new place', 13, colour=SOFT)
    d.text(555, 624, 'still any dog', 13, colour=SOFT)
    return d


def pipeline():
    d = Diagram('The five parts of a Stable Diffusion pipeline',
                'A prompt goes through tokenizer and text_encoder and becomes encoder_hidden_states. Latents '
                'begin as noise; in a loop the UNet reads them, the timestep and the text, and the scheduler '
                'takes one step with its prediction. In the end the VAE decoder turns latents into an image. '
                'The VAE encoder is needed in training only: it turns images into latents.', 606)
    d.box(20, 34, 190, 40, 'text', 'a photo of a red dog …', size=14)
    d.text(115, 24, 'prompt', 13, colour=SOFT)
    d.box(252, 29, 130, 50, 'rule', 'tokenizer', 'words to numbers', size=14)
    d.box(482, 29, 150, 50, 'trained', 'text_encoder', size=15)
    d.arrow((210, 54), (252, 54))
    d.arrow((382, 54), (482, 54))
    d.text(430, 40, 'token ids', 13, colour=SOFT)
    d.text(430, 68, '24', 13, colour=SOFT)
    d.arrow((557, 79), (557, 158), colour=KINDS['text'][1], width=2.2)
    d.text(566, 100, 'encoder_hidden_states', 14, 'start', colour=KINDS['text'][1], bold=True)
    d.text(566, 119, '24 vectors of 128 values', 13, 'start', colour=SOFT)
    d.add('<rect x="196" y="136" width="474" height="216" rx="12" fill="none" stroke="#8b949e" '
          'stroke-width="1.5" stroke-dasharray="3 4"/>')
    d.text(208, 154, 'the loop, for example 25 times', 13, 'start', colour=SOFT, italic=True)
    d.box(470, 158, 174, 80, 'trained', 'unet', 'what is noise here,', 'and what is image?', size=14)
    d.box(470, 276, 174, 58, 'rule', 'scheduler', 'takes one step', size=14)
    d.arrow((557, 238), (557, 276))
    d.text(566, 257, 'model_pred', 13, 'start', colour=SOFT)
    d.tile('latents-18', 300, 196, 96)
    d.text(340, 184, 'latents', 14, bold=True)
    d.text(440, 182, 'timestep', 13, 'end', colour=SOFT)
    d.arrow((444, 182), (470, 182))
    d.arrow((396, 215), (470, 215))
    d.arrow((470, 305), (376, 305), (376, 292))
    d.text(412, 320, 'a little less noise', 13, colour=SOFT)
    d.tile('latents-0', 40, 196, 96)
    d.lines(88, 312, ['noise', '4 × 16 × 16'], 13, colour=SOFT)
    d.arrow((136, 244), (300, 244))
    d.tile('latents-25', 300, 376, 96)
    d.arrow((330, 292), (330, 376))
    d.text(322, 336, 'at the end', 13, 'end', colour=SOFT)
    d.box(434, 402, 116, 44, 'frozen', 'vae.decode', size=14)
    d.arrow((396, 424), (434, 424))
    d.tile('image', 588, 376, 96)
    d.arrow((550, 424), (588, 424))
    d.lines(692, 416, ['image', '3×64×64'], 13, 'start', colour=SOFT)
    d.line((20, 488), (740, 488), colour='#c4c8cc', width=1.2)
    d.lines(118, 528, ['the way in, needed only', 'to train: photos to latents'], 13, colour=SOFT)
    d.tile('noisy-0', 228, 498, 64)
    d.box(434, 508, 116, 44, 'frozen', 'vae.encode', size=14)
    d.tile('noisy-latents-0', 588, 498, 64)
    d.arrow((292, 530), (434, 530))
    d.arrow((550, 530), (588, 530))
    d.legend('text', 'trained', 'frozen', 'rule', y=586, trained='trained by DreamBooth', frozen='always frozen')
    return d


def training_step():
    d = Diagram('One training step of DreamBooth',
                'Half of the batch are images of the subject, half are class images. The frozen VAE turns '
                'them into latents; noise is added at random timesteps; the UNet predicts the target from the '
                'noisy latents, the timesteps and the text. The squared error of the first half is the '
                'instance loss, that of the second half the prior loss, weighted with prior_loss_weight. '
                'Gradients of the sum change the UNet and the text encoder.', 552)
    orange = KINDS['trained'][1]
    d.text(78, 22, 'one batch', 13, colour=SOFT, italic=True)
    d.box(18, 34, 120, 186, 'data')
    for y, name, label in ((40, 'photo-0', 'instance images'), (130, 'class-0', 'class images')):
        d.tile(name, 46, y, 64)
        d.text(78, y + 74, label, 13)
    d.box(176, 68, 100, 44, 'frozen', 'vae.encode')
    d.arrow((138, 90), (176, 90))
    d.box(342, 64, 116, 52, 'rule', 'add_noise')
    d.arrow((276, 90), (342, 90))
    d.text(308, 78, 'latents', 13, colour=SOFT)
    d.text(400, 22, 'noise, timesteps: random', 13, colour=SOFT)
    d.arrow((400, 33), (400, 64))
    d.tile('noisy-latents-400', 494, 58, 64)
    d.text(526, 46, 'noisy_latents', 13, colour=SOFT)
    d.arrow((458, 90), (494, 90))
    d.box(590, 50, 134, 80, 'trained', 'unet', size=16)
    d.arrow((558, 90), (590, 90))
    for y, prompt in ((246, 'a photo of sks dog'), (282, 'a photo of a dog')):
        d.box(18, y, 160, 28, 'text', prompt, bold=False)
    d.box(228, 256, 122, 44, 'trained', 'text_encoder')
    d.arrow((178, 260), (228, 270))
    d.arrow((178, 296), (228, 287))
    d.arrow((350, 278), (612, 278), (612, 130), colour=KINDS['text'][1], width=2.2)
    d.text(514, 264, 'encoder_hidden_states', 13, colour=KINDS['text'][1])
    d.arrow((706, 130), (706, 340))
    d.text(698, 220, 'model_pred', 13, 'end', colour=SOFT)
    d.box(330, 340, 140, 52, 'data', 'target', 'noise or v (see 03)', bold=True)
    d.arrow((400, 116), (400, 340), dashed=True)
    d.text(408, 168, 'known, because', 13, 'start', colour=SOFT)
    d.text(408, 184, 'we added it', 13, 'start', colour=SOFT)
    d.box(560, 340, 170, 52, 'loss', '(model_pred − target)²', 'per sample', size=14)
    d.arrow((470, 366), (560, 366))
    d.box(330, 428, 190, 46, 'loss', 'instance loss', 'mean over the first half')
    d.box(540, 428, 190, 46, 'loss', 'prior loss', 'mean over the second')
    d.arrow((600, 392), (600, 410), (425, 410), (425, 428))
    d.arrow((645, 392), (645, 428))
    d.box(236, 500, 494, 32, 'loss', 'loss = instance loss + prior_loss_weight × prior loss', size=14)
    d.arrow((425, 474), (425, 500))
    d.arrow((635, 474), (635, 500))
    d.arrow((236, 516), (204, 516), (204, 330), (289, 330), (289, 300), colour=orange, width=2.4)
    d.arrow((730, 516), (744, 516), (744, 90), (724, 90), colour=orange, width=2.4)
    d.lines(104, 406, ['the gradient of the', 'loss changes what', 'is trained'], 14, colour=orange)
    d.legend('trained', 'frozen', y=474, x=18)
    d.legend('rule', y=500, x=18)
    return d


def guidance():
    d = Diagram('Guidance as vectors',
                'Two predictions start at the same latents: noise_pred_uncond without the prompt and '
                'noise_pred_text with it. Guidance goes on along their difference: scale 0 is the prediction '
                'without the prompt, 1 the one with it, 4 and 7.5 lie further out on the same line.', 390)
    x0, y0, green = 120, 310, KINDS['text'][1]
    def at(scale): return 205 + 62*scale, 150 - 8*scale
    d.arrow((x0, y0), at(7.5), colour=INK, width=1.7, dashed=True)
    d.text(436, 232, 'what is used at scale 7.5', 14, 'start')
    d.line(at(0), at(8.1), colour='#8b949e', width=1.5, dashed=True)
    d.arrow((x0, y0), at(0), colour=SOFT, width=3, head=12)
    d.arrow((x0, y0), at(1), colour='#0072b2', width=3, head=12)
    d.arrow(at(0), at(1), colour=green, width=4, head=13)
    d.dot(x0, y0, 6)
    d.lines(x0, y0 + 26, ['the latents', 'at this step'], 14)
    d.lines(146, 226, ['noise_pred_uncond', 'without the prompt'], 14, 'end', colour=SOFT, first_bold=True)
    d.lines(252, 188, ['noise_pred_text', 'with the prompt'], 14, 'start', colour='#0072b2', first_bold=True)
    d.line((236, 116), (236, 76), colour=green, width=1)
    d.text(236, 62, 'difference: what the prompt changes', 14, 'middle', colour=green, bold=True)
    for scale, note in ((0, ''), (1, ''), (4, 'usual in this book'), (7.5, 'usual for Stable Diffusion')):
        x, y = at(scale)
        if scale > 1: d.dot(x, y, 6)
        d.text(x + {0: -8, 1: 8}.get(scale, 0), y - 20, f'scale {scale:g}', 14, bold=True)
        if note: d.text(min(x, 650), y - 42, note, 13, colour=SOFT)
    d.box(232, 322, 506, 44, 'rule', 'noise_pred_uncond + guidance_scale × (noise_pred_text − noise_pred_uncond)',
          size=13, bold=False)
    return d


SHARES = {  # what the embedded model's attention gives to each token, %: mean over heads, layers and 25 steps, at three
    # of 8x8 places of tools/tiles/hat.png; start, the twelve words, end and padding
    'hat': (4, 4, 4, 4, 4, 6, 2, 4, 5, 35, 2, 4, 3, 20),
    'face': (3, 3, 3, 3, 3, 24, 4, 3, 20, 4, 4, 3, 4, 18),
    'sky': (8, 7, 7, 8, 7, 1, 2, 6, 1, 3, 2, 6, 2, 40)}


def unet():
    d = Diagram('The UNet, opened',
                'Latents enter at the left, go through two down blocks, where the image becomes smaller and the '
                'channels more, through a middle block and up again through two up blocks. Skip connections carry '
                'details across. The timestep goes into every block; the text goes into the cross-attention of '
                'the blocks at 8 by 8.', 452)
    green = KINDS['text'][1]
    d.text(56, 76, 'latents', 14, bold=True)
    d.tile('latents-18', 24, 90, 64)
    d.text(56, 168, '4 × 16 × 16', 13, colour=SOFT)
    d.text(704, 76, 'model_pred', 14, bold=True)
    d.box(672, 90, 64, 64, 'data')
    d.text(704, 168, '4 × 16 × 16', 13, colour=SOFT)
    for x, y, name, size, cross in ((150, 92, 'down_blocks[0]', 'gives 64 × 8 × 8', False),
                                    (150, 204, 'down_blocks[1]', 'gives 128 × 8 × 8', True),
                                    (300, 300, 'mid_block', 'gives 128 × 8 × 8', True),
                                    (450, 204, 'up_blocks[0]', 'gives 128 × 16 × 16', True),
                                    (450, 92, 'up_blocks[1]', 'gives 64 × 16 × 16', False)):
        d.box(x, y, 160, 62, 'trained', name, size, *['with cross-attention']*cross)
    d.arrow((88, 122), (150, 122))
    d.arrow((610, 122), (672, 122))
    d.text(119, 110, 'conv_in', 13, colour=SOFT)
    d.text(640, 110, 'conv_out', 13, colour=SOFT)
    d.arrow((230, 154), (230, 204))
    d.text(222, 179, '8 × 8 from here', 13, 'end', colour=SOFT)
    d.arrow((250, 266), (250, 320), (300, 320))
    d.arrow((460, 320), (510, 320), (510, 266))
    d.arrow((530, 204), (530, 154))
    d.text(538, 179, '16 × 16 from here', 13, 'start', colour=SOFT)
    d.arrow((310, 122), (450, 122), dashed=True)
    d.arrow((310, 234), (450, 234), dashed=True)
    d.lines(380, 178, ['skip connections: details', 'go straight across'], 13, colour=SOFT, leading=17)
    d.box(300, 22, 160, 34, 'rule', 'timestep', bold=True)
    d.text(472, 39, 'goes into every block', 13, 'start', colour=SOFT)
    d.arrow((360, 56), (360, 76), (290, 76), (290, 92))
    d.arrow((400, 56), (400, 76), (470, 76), (470, 92))
    d.box(270, 396, 220, 34, 'text', 'encoder_hidden_states')
    for path in (((380, 396), (380, 362)), ((270, 413), (190, 413), (190, 266)), ((490, 413), (570, 413), (570, 266))):
        d.arrow(*path, colour=green, width=2.2)
    d.lines(104, 380, ['the text enters', 'in the small levels'], 13, colour=green, leading=17)
    return d


def cross_attention():
    d = Diagram('Cross-attention',
                'Three places of an image, the hat, the face and the sky, and the words of the prompt "a '
                'photo of a dog wearing a red hat on the beach". The place on the hat reads the word hat with '
                '35 percent of its attention; the place on the face reads dog with 24 and red with 20 '
                'percent; the place in the sky reads no word in particular and 40 percent of padding.', 560)
    words = ('start', *'a photo of a dog wearing a red hat on the beach'.split(), 'end and padding')
    colours = dict(hat='#b23a00', face='#0072b2', sky='#565e66')
    places = dict(hat=(3, 1), face=(3, 3), sky=(0, 1))
    left, top, side, first, step = 30, 76, 256, 58, 25
    d.text(158, 28, 'the image asks: query', 15, bold=True)
    d.text(158, 50, 'each of 8 × 8 places has one', 13, colour=SOFT)
    d.text(474, 24, 'the words answer: key and value', 15, bold=True)
    d.tile('hat', left, top, side)
    for i in range(1, 8):
        for a, b in (((left + 32*i, top), (left + 32*i, top + side)), ((left, top + 32*i), (left + side, top + 32*i))):
            d.line(a, b, colour='#ffffff', width=.5)
    for name, (column, row) in places.items():
        x, y = left + 32*column + 16, top + 32*row + 16
        d.add(f'<g fill="none" stroke="{colours[name]}">')
        for i, share in enumerate(SHARES[name]):
            opacity = .85 if share > 15 and i < len(words) - 1 else .35
            d.add(f'<path d="M{x + 16} {y}C{x + 140} {y} 330 {first + step*i} 408 {first + step*i}" '
                  f'stroke-width="{number(max(share*.28, .3))}" opacity="{opacity}"/>')
        d.add('</g>')
    for name, (column, row) in places.items():
        square = f'<rect x="{left + 32*column}" y="{top + 32*row}" width="32" height="32" fill="none"'
        d.add(f'{square} stroke="#fff" stroke-width="6"/>{square} stroke="{colours[name]}" stroke-width="3"/>')
    for i, word in enumerate(words):
        y = first + step*i
        special = i in (0, len(words) - 1)
        d.box(408, y - 11, 132, 22, 'text', word, bold=False, radius=5, dashed=special)
        for k, (name, shares) in enumerate(SHARES.items()):
            d.text(604 + 56*k, y, f'{shares[i]} %', 14, 'end', shares[i] > 15, colours[name])
    for k, name in enumerate(SHARES): d.text(604 + 56*k, 37, name, 13, 'end', True, colours[name])
    d.lines(158, 362, ['thick lines: much attention', 'numbers of the embedded model, mean over',
                       'heads, layers and steps'], 13, colour=SOFT, leading=17)
    steps = ('query: each place of the image, through a matrix to_q',
             'key and value: each token of the prompt, through to_k and to_v',
             'attention: softmax(query · keyᵀ / √d); for each place it sums to 100 %',
             'the place receives the values of all tokens, weighted with its attention')
    d.box(30, 422, 700, 120, 'rule')
    for i, text in enumerate(steps):
        d.dot(56, 443 + 26*i, 11, '#0072b2')
        d.text(56, 443 + 26*i, str(i + 1), 13, bold=True, colour='#ffffff')
        d.text(78, 443 + 26*i, text, 14, 'start')
    return d


def lora():
    d = Diagram('LoRA: two thin matrices next to a weight',
                'A frozen matrix W of 128 by 128 elements stays as it is. Next to it two thin matrices are '
                'trained: A of 4 by 128 and B of 128 by 4 elements. Their product has the shape of W and is '
                'added to it.', 400)
    side, thin, top = 192, 6, 76
    d.box(60, top, side, side, 'frozen', 'W', '128 × 128', '16,384 elements', 'frozen', size=15, radius=2)
    d.text(292, top + side/2, '+', 34)
    d.text(340, top + side/2, 'α / r  ×', 17)
    d.box(398, top, thin, side, 'trained', radius=0)
    d.box(430, top + side/2 - thin/2, side, thin, 'trained', radius=0)
    d.text(401, top - 14, 'B', 17, bold=True)
    d.text(526, top + side/2 - 20, 'A', 17, bold=True)
    d.lines(416, top + side - 26, ['128 × 4', '512 elements'], 14, 'start')
    d.lines(526, top + side/2 + 28, ['4 × 128, 512 elements'], 14)
    d.text(652, top + side/2, '= a change of', 13, 'start', colour=SOFT)
    d.text(652, top + side/2 + 18, '128 × 128', 13, 'start', colour=SOFT)
    d.text(156, 34, 'one weight of an attention layer', 14, colour=SOFT)
    d.text(560, 34, 'its adapter of rank r = 4, drawn to scale', 14, colour=SOFT)
    d.box(30, 292, 226, 60, 'rule', 'at the start B is zero:', 'the model is what it was', bold=False)
    d.box(268, 292, 226, 60, 'rule', 'only A and B are trained', 'and saved: a small file', bold=False)
    d.box(506, 292, 226, 60, 'rule', 'merged, W + (α/r)·B·A is one', 'matrix: no slower to use', bold=False)
    d.legend('trained', 'frozen', y=377)
    return d


def run_state():
    d = Diagram("What a run's state is",
                'A run is stopped after 30 steps and continues from a checkpoint. The checkpoint holds the '
                "trained weights, the optimizer's moments, averaged weights, and the step with schedule and "
                'settings. Noise, timesteps, order and crops of images are not kept: they are a function of '
                'seed and step.', 476)
    d.line((40, 50), (330, 50), width=3)
    d.arrow((430, 50), (722, 50), width=3, head=12)
    for k in range(30): d.dot(46 + 9.6*k, 50, 2.8)
    for k in range(29): d.dot(440 + 9.6*k, 50, 2.8)
    d.text(40, 27, 'steps 0 to 29', 14, 'start')
    d.text(714, 27, 'steps 30 to 59: as if never stopped', 14, 'end')
    d.box(326, 32, 108, 38, 'rule', 'stopped', bold=True, radius=19)
    d.arrow((380, 70), (380, 98), (230, 98), (230, 116))
    d.text(390, 92, 'checkpoint-30', 14, 'start', bold=True)
    d.box(24, 116, 412, 336, 'none')
    d.add('<rect x="24" y="116" width="412" height="336" rx="10" fill="#f1f2f3" stroke="#8b949e" stroke-width="1.5"/>')
    d.text(230, 136, 'kept: it cannot be computed again', 14, bold=True)
    rows = (('trained', 'trained weights', 'forgotten: nothing was learned'),
            ('trained', 'optimizer moments', 'forgotten: the next steps have the wrong length'),
            ('trained', 'averaged weights (EMA), if used', 'forgotten: the average starts over'),
            ('rule', 'step, learning-rate schedule', 'forgotten: wrong rate, the same noise again'),
            ('rule', 'settings, among them the seed', 'forgotten: another run'))
    for i, (kind, name, loss) in enumerate(rows):
        d.box(40, 154 + 58*i, 380, 50, kind, name, loss)
    d.add('<rect x="456" y="116" width="282" height="226" rx="10" fill="#f1f2f3" stroke="#8b949e" '
          'stroke-width="1.5" stroke-dasharray="5 4"/>')
    d.text(597, 136, 'not kept: a function of', 14, bold=True)
    d.text(597, 156, 'seed and step', 14, bold=True)
    for i, name in enumerate(('noise', 'timesteps', 'which images, in which order', 'crops and flips')):
        d.box(472, 174 + 40*i, 250, 32, 'data', name, bold=False)
    d.add('<rect x="456" y="358" width="282" height="94" rx="10" fill="#f1f2f3" stroke="#8b949e" '
          'stroke-width="1.5" stroke-dasharray="5 4"/>')
    d.text(597, 378, 'not kept: in the base model', 14, bold=True)
    d.box(472, 396, 250, 42, 'frozen', 'vae, and whatever is frozen', bold=False)
    return d


def freezing():
    d = Diagram('Which parts each preset trains',
                'A table. unet+text_encoder trains all of both; unet trains the UNet alone; cross_attention '
                'trains only the attn2 layers of the UNet; token_embedding trains only the row of the '
                'identifier; lora trains small matrices next to the attention layers of both. The VAE is '
                'never trained.', 420)
    columns = (('token', 'embedding', 190, 92), ('other', 'layers', 286, 80), ('attn2', '(cross)', 378, 70),
               ('attn1', '(self)', 452, 66), ('other', 'layers', 522, 70), ('all', 'of it', 608, 48))
    for name, a, b in (('text_encoder', 190, 366), ('unet', 378, 592), ('vae', 608, 656)):
        d.text((a + b)/2, 26, name, 15, bold=True)
        d.line((a, 40), (b, 40), width=1.2)
    for top, below, x, w in columns: d.lines(x + w/2, 60, [top, below], 13, colour=SOFT, leading=16)
    d.lines(708, 60, ['trained', 'elements'], 13, colour=SOFT, leading=16)
    rows = (('unet+text_encoder', 'tttttf', '4,406,724', '100 %'), ('unet', 'fftttf', '3,984,068', '90 %'),
            ('cross_attention', 'fftfff', '262,656', '6 %'), ('lora', 'flllff', '40,960', '0.9 %'),
            ('token_embedding', 'rfffff', '128', '0.003 %'))
    for i, (name, marks, count, share) in enumerate(rows):
        y = 84 + 58*i
        d.text(20, y + 24, name, 14, 'start', True)
        for (_, _, x, w), mark in zip(columns, marks):
            d.box(x, y, w, 48, 'trained' if mark == 't' else 'frozen')
            if mark == 'r': d.box(x, y + 15, w, 18, 'trained', 'sks', size=13, bold=False, radius=0)
            if mark == 'l':
                d.box(x + w/2 - 16, y + 8, 5, 32, 'trained', radius=0)
                d.box(x + w/2 - 5, y + 21.5, 32, 5, 'trained', radius=0)
        d.lines(740, y + 24, [count, share], 13, 'end', first_bold=True)
    d.text(20, 396, 'lora: two thin matrices next to each frozen weight of attention', 13, 'start', colour=SOFT)
    d.legend('trained', 'frozen', y=396, x=572)
    return d


def noise_schedule():
    d = Diagram('From image to noise and back',
                'The same image with more and more noise, at the timesteps 0, 200, 400, 600, 800 and 999. In '
                'training, noise of any amount is added in one jump. When an image is generated, the '
                'scheduler walks back from noise in many small steps. Below, the factor of the image falls '
                'from 1 to nearly 0 while the factor of the noise rises.', 468)
    levels, side = (0, 200, 400, 600, 800, 999), 100
    xs = [40 + 116*i for i in range(6)]
    d.arrow((xs[0], 26), (xs[-1] + side, 26), colour='#b23a00', width=2.4, head=12)
    d.text(380, 44, 'training: add_noise jumps from the image to any timestep at once', 14, colour='#b23a00')
    for x, t in zip(xs, levels):
        d.tile(f'noisy-{t}', x, 62, side)
        d.text(x + side/2, 176, f'timestep {t}' if t == 0 else str(t), 14, bold=True)
    d.text(380, 200, 'generating: the scheduler steps back a little at a time; the UNet says how', 14, colour='#0072b2')
    d.arrow((xs[-1] + side, 218), (xs[0], 218), colour='#0072b2', width=2.4, head=12)
    left, right, low, high = xs[0] + side/2, xs[-1] + side/2, 410, 252
    betas = [(.00085**.5 + (.012**.5 - .00085**.5)*i/999)**2 for i in range(1000)]
    kept, curve = 1., []
    for i, beta in enumerate(betas):
        kept *= 1 - beta
        if i % 25 == 0 or i in (1, 3, 6, 10, 16, 999): curve.append((left + (right - left)*i/999, kept))
    for power, colour in (((lambda a: a**.5), '#0072b2'), ((lambda a: (1 - a)**.5), '#b23a00')):
        d.line(*((x, low - (low - high)*power(a)) for x, a in curve), colour=colour, width=2.6)
    d.line((left, high), (left, low), (right, low), width=1.2)
    for value in (0, .5, 1): d.text(left - 10, low - (low - high)*value, f'{value:g}', 13, 'end')
    for x, t in zip(xs, levels): d.text(x + side/2, low + 16, str(t), 13)
    d.text(left + 118, 248, 'factor of the image: √ᾱ', 14, 'start', True, '#0072b2')
    d.text(right - 6, 274, 'factor of the noise: √(1 − ᾱ)', 14, 'end', True, '#b23a00')
    d.text(left + 24, 393, 'noisy_latents = √ᾱ · latents + √(1 − ᾱ) · noise', 14, 'start')
    d.text(right, low + 36, 'timestep', 13, 'end', colour=SOFT)
    d.text(xs[0], low + 36, 'The noise is added to latents; decoded, it looks like soft blobs.', 13, 'start',
           colour=SOFT)
    return d


def sdxl():
    d = Diagram('What the UNet of Stable Diffusion XL is told',
                'Two text encoders read the prompt. Their vectors stand side by side, one per token, and go into '
                'cross-attention. The second encoder also gives one vector for the whole prompt. It stands side by '
                'side with six numbers about the image, each as a vector of sines and cosines; a small network turns '
                'all of them into one vector, which is added to that of the timestep and goes into every block.', 498)
    green = KINDS['text'][1]
    d.box(20, 72, 142, 44, 'text', 'a photo of sks dog', size=14, bold=False)
    d.text(91, 60, 'prompt', 13, colour=SOFT)
    d.box(206, 30, 166, 50, 'trained', 'text_encoder', '123 million weights')
    d.box(206, 108, 166, 50, 'trained', 'text_encoder_2', '695 million weights')
    d.arrow((162, 88), (184, 88), (184, 55), (206, 55))
    d.arrow((162, 100), (184, 100), (184, 133), (206, 133))
    d.box(440, 48, 88, 30, 'text', '77 × 768', bold=False)
    d.box(440, 78, 88, 48, 'text', '77 × 1280', bold=False)
    d.arrow((372, 55), (440, 60), colour=green, width=2.2)
    d.arrow((372, 124), (440, 104), colour=green, width=2.2)
    d.text(484, 30, 'encoder_hidden_states', 13, colour=green, bold=True)
    d.text(484, 142, 'one vector per token, 2048 wide', 13, colour=SOFT)
    d.box(632, 48, 104, 306, 'trained', 'unet', '2.6 billion', 'weights', size=15)
    d.arrow((528, 87), (632, 87), colour=green, width=2.2)
    d.lines(580, 62, ['cross-', 'attention'], 13, colour=SOFT, leading=15)
    d.arrow((289, 158), (289, 200), colour=green, width=2.2)
    d.box(206, 200, 166, 44, 'text', 'text_embeds', '1280: the whole prompt')
    d.box(20, 262, 352, 44, 'data', 'original height, width · top, left · height, width',
          'six numbers about the image', size=13, bold=False)
    d.text(196, 322, 'time_ids', 13, colour=SOFT, bold=True)
    d.box(206, 340, 166, 44, 'rule', 'sines and cosines', '6 × 256 = 1536')
    d.arrow((289, 306), (289, 340))
    d.box(440, 240, 108, 60, 'trained', 'add_embedding', '2816 to 1280', size=13)
    d.arrow((372, 222), (406, 222), (406, 258), (440, 258))
    d.arrow((372, 362), (406, 362), (406, 282), (440, 282))
    d.box(440, 390, 108, 44, 'rule', 'timestep', '1280, as ever', size=14)
    d.arrow((548, 270), (590, 270), (590, 318))
    d.arrow((548, 412), (590, 412), (590, 342))
    d.box(576, 318, 28, 24, 'rule', '+', size=15, radius=12)
    d.arrow((604, 330), (632, 330))
    d.lines(662, 394, ['into every block'], 13, 'middle', colour=SOFT)
    d.line((620, 340), (620, 382), colour='#8b949e', width=1)
    d.legend('text', 'data', 'trained', 'rule', y=474, trained='can be trained', data='about the image')
    return d


def experts():
    d = Diagram('One block with experts',
                'A token goes through the attention, whose output is added to it. Then it goes to a dense network, '
                'which every token uses, and to a router, which picks two of eight experts for this token; the other '
                'six rest. What those two say is weighted and added up. What the dense network and the experts say is '
                'added up and added to the token.', 364)
    d.box(18, 132, 84, 54, 'text', 'token', 'a vector')
    d.box(136, 120, 112, 78, 'trained', 'attention', 'looks at', 'earlier tokens')
    d.arrow((102, 159), (136, 159))
    d.arrow((248, 159), (276, 159))
    for x, y in ((289, 159), (648, 96), (702, 159)): d.box(x - 13, y - 13, 26, 26, 'rule', '+', size=16, radius=13)
    d.arrow((119, 159), (119, 96), (289, 96), (289, 146), dashed=True)
    d.arrow((302, 159), (689, 159), dashed=True)
    d.text(500, 146, 'the token itself', 13, colour=SOFT)
    d.box(366, 62, 206, 68, 'trained', 'dense network', 'used for every token')
    d.arrow((330, 159), (330, 96), (366, 96))
    d.arrow((572, 96), (635, 96))
    d.arrow((330, 159), (330, 240), (366, 240))
    d.box(366, 204, 88, 72, 'trained', 'router', 'picks', '2 of 8')
    d.arrow((454, 240), (482, 240))
    for i in range(8):
        picked = i in (2, 5)
        d.box(482 + 34*(i % 4), 202 + 40*(i//4), 30, 36, 'trained' if picked else 'frozen', str(i + 1), bold=picked)
    d.line((614, 240), (648, 240), (648, 168))
    d.arrow((648, 150), (648, 109))
    d.arrow((661, 96), (702, 96), (702, 146))
    d.arrow((715, 159), (744, 159))
    d.lines(472, 304, ['experts: what the picked ones say is weighted and added up'], 13, colour=SOFT)
    d.text(380, 28, 'Norms stand before and behind attention, dense network and experts, and behind their sum.', 13,
           colour=SOFT)
    d.legend('trained', 'frozen', 'rule', y=340, trained='used for this token', frozen='rests')
    return d


DIAGRAMS = (
    dreambooth, pipeline, training_step, guidance, unet, cross_attention, lora, run_state, freezing, noise_schedule,
    sdxl, experts)


def main():
    for draw in DIAGRAMS:
        text = draw().svg()
        path = IMAGES/f'{draw.__name__}.svg'
        path.write_text(text, encoding='utf-8')
        print(f'{path.relative_to(ROOT)}: {len(text)/1000:.1f} kB')


if __name__ == '__main__': main()
