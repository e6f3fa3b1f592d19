// Bokeh does not clip the level "overlay" to the frame, so lines would cross the title.
const map = cb_context.index.find_one(plot)
if (!map) return  // another page has replaced the map
const overlays = map.computed_renderer_views
    .filter(({model}) => model.level === "overlay" && model.type === "GlyphRenderer")
if (!overlays.every((view) => view.needs_clip)) {
    for (const view of overlays) Object.defineProperty(view, "needs_clip", {value: true})
    const {canvas} = map.canvas_view.overlays
    canvas.width = canvas.width  // removes what has been drawn
    map.request_paint(...overlays)
}

// A text at the edge of a map moves inwards. A text that would cover an earlier text is hidden,
// and so is the text of a position outside the map.
const {start: west, end: east} = plot.x_range, {start: south, end: north} = plot.y_range
const km = (east - west) / plot.inner_width  // of a pixel
const inside = (value, low, high, half) => Math.min(Math.max(value, low + half), high - half)
const boxes = []
for (const [renderer, limit] of names) {
    renderer.visible = east - west < limit && plot.inner_width > 200  // a small map has no room
    if (!renderer.visible) continue
    const source = renderer.data_source
    const {text, x, y, shown_x, shown_y} = source.data
    let is_changed = false
    for (let i = 0; i < text.length; i++) {
        const [width, height] = [(6.2 * text[i].length + 6) * km, 17 * km]
        const column = inside(x[i], west, east, width / 2)
        const row = inside(y[i], south, north, height / 2)
        const is_free = west <= x[i] && x[i] <= east && south <= y[i] && y[i] <= north
            && boxes.every(([other_x, other_y, other_width]) =>
                Math.abs(column - other_x) > (width + other_width) / 2
                || Math.abs(row - other_y) > height)
        if (is_free) boxes.push([column, row, width])
        const position = is_free ? [column, row] : [NaN, NaN]
        is_changed ||= !Object.is(position[0], shown_x[i]) || !Object.is(position[1], shown_y[i]);
        [shown_x[i], shown_y[i]] = position
    }
    if (is_changed) source.change.emit()
}
