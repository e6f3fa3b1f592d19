// One legend of several figures: a button for each curve, which hides and shows it.
export function render({model}) {
    const is_dark = document.documentElement.dataset.theme === "dark"
    const list = document.createElement("div")
    list.className = "legend"
    list.setAttribute("role", "group")
    list.setAttribute("aria-label", "Curves of all figures")
    const draw = () => {
        list.replaceChildren(...model.entries.map(([name, colour, dark, dash, width]) => {
            const button = document.createElement("button")
            const line = `stroke="${is_dark ? dark : colour}" stroke-width="${width}" stroke-dasharray="${dash}"`
            button.innerHTML = `<svg width="28" height="12" aria-hidden="true">
                <line x1="1" x2="27" y1="6" y2="6" ${line}/></svg>`
            button.append(name)
            button.title = "Hide or show this curve in all figures"
            button.setAttribute("aria-pressed", !model.hidden.includes(name))
            button.addEventListener("click", () => {
                const others = model.hidden.filter((hidden) => hidden !== name)
                const is_hidden = others.length < model.hidden.length
                model.hidden = is_hidden ? others : [...others, name]
                button.setAttribute("aria-pressed", is_hidden)
            })
            return button
        }))
    }
    model.on("entries", draw)
    draw()
    return list
}
