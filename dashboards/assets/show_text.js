// Shows the text of an input in a Div, without an event of the Div, which would lay out the page again.
div.setv({text: cb_obj.value}, {silent: true})
const view = Bokeh.index.find_one(div)
if (view) view.markup_el.innerHTML = cb_obj.value
