// Breaks the title of a figure, `text`, into lines that are not wider than the figure.
const context = document.createElement("canvas").getContext("2d")
context.font = `${title.text_font_style} ${title.text_font_size} ${title.text_font}`
const lines = [""]
for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim()
    if (lines.at(-1) && context.measureText(longer).width > cb_obj.inner_width) lines.push(word)
    else lines[lines.length - 1] = longer
}
title.text = lines.join("\n")
