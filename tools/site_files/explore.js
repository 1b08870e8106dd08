// Sliders over stored images, without a kernel: for each element of class "explorable", whose data-explorable holds
// {sheet, tile, columns, axes: [{name, values, start, right, down}], rows: [[text, left], ...], said}.
// An image stands in the sheet at `left` tiles plus, for each axis, its choice times `right` and `down` tiles.
// A slider is an <input type="range">: it knows the arrow keys and touch.
'use strict';
function make(kind, given, ...children) {
  const element = Object.assign(document.createElement(kind), given);
  element.append(...children);
  return element;
}

function explorable(box) {
  const spec = JSON.parse(box.dataset.explorable);
  const sheet = new URL(spec.sheet, document.baseURI).href;
  const sliders = spec.axes.map(axis => make('input', {
    type: 'range', min: 0, max: axis.values.length - 1, step: 1, value: axis.start, ariaLabel: axis.name}));
  const shown = spec.axes.map(() => make('output', {}));
  const said = make('p', {className: 'explorable-said', ariaLive: 'polite'});
  const tiles = [];
  const rows = spec.rows.map(([text, left]) => {
    const images = Array.from({length: spec.columns}, (_, i) => {
      const image = make('div', {className: 'explorable-image', role: 'img'});
      image.style.backgroundImage = `url("${sheet}")`;
      tiles.push({image, text, left: left + i});
      return image;
    });
    return make('figure', {}, make('div', {className: 'explorable-images'}, ...images), make('figcaption', {}, text));
  });
  box.replaceChildren(
    make('div', {className: 'explorable-choices'}, ...spec.axes.map((axis, i) =>
      make('label', {}, make('span', {}, axis.name), sliders[i], shown[i]))),
    make('div', {className: 'explorable-rows'}, ...rows), said);

  function draw() {
    const chosen = sliders.map(slider => Number(slider.value));
    const words = spec.axes.map((axis, i) => `${axis.name} ${axis.values[chosen[i]]}`);
    spec.axes.forEach((axis, i) => {
      shown[i].value = axis.values[chosen[i]];
      sliders[i].ariaValueText = String(axis.values[chosen[i]]);
    });
    const [right, down] = ['right', 'down'].map(way =>
      spec.axes.reduce((sum, axis, i) => sum + chosen[i] * (axis[way] || 0), 0));
    for (const {image, text, left} of tiles) {      // in shares of the sheet, so that a tile may have any size
      const [width, height] = [spec.sheet_columns, spec.sheet_rows];
      image.style.backgroundSize = `${100 * width}% ${100 * height}%`;
      image.style.backgroundPosition = `${100 * (left + right) / (width - 1)}% ${100 * down / (height - 1)}%`;
      image.ariaLabel = `${text}, ${words.join(', ')}`;
    }
    said.textContent = spec.said[down] || '';
  }
  sliders.forEach(slider => slider.addEventListener('input', draw));
  draw();
}

document.querySelectorAll('.explorable').forEach(explorable);
