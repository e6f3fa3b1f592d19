// Shows the text of an input in a Div, without an event of the Div, which would lay out the page again.
div.setv({text: cb_obj.value}, {silent: true})
if (!div.view?.el.isConnected) div.view = Bokeh.index.find_one(div)  // the search takes milliseconds
if (div.view) div.view.markup_el.innerHTML = cb_obj.value
