// Gives the curves of a figure their colours for a dark page, once. The server keeps the light ones.
if (document.documentElement.dataset.theme === "dark" && !cb_obj.is_dark) {
    cb_obj.is_dark = true
    for (const [glyph, name, colour] of changes) glyph.setv({[name]: colour}, {sync: false})
}
