// One legend of several figures: a button for each curve, which hides and shows it.
const MARKERS = {
    circle: "M14 2a4 4 0 1 0 .01 0z", square: "M10.5 2.5h7v7h-7z", triangle: "M14 1.5l4.5 8h-9z",
    diamond: "M14 1.5l4 4.5-4 4.5-4-4.5z", inverted_triangle: "M14 10.5l4.5-8h-9z",
    star: "M14 1l1.4 3.5 3.8.3-2.9 2.4.9 3.7-3.2-2-3.2 2 .9-3.7-2.9-2.4 3.8-.3z",
    plus: "M12.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}

export function render({model}) {
    const is_dark = document.documentElement.dataset.theme === "dark"
    const list = document.createElement("div")
    list.className = "legend"
    list.setAttribute("role", "group")
    list.setAttribute("aria-label", "Curves of all figures")
    const draw = () => {
        list.replaceChildren(...model.entries.map(([name, light, dark, dash, width, marker]) => {
            const button = document.createElement("button")
            const colour = is_dark ? dark : light
            const line = `stroke="${colour}" stroke-width="${width}" stroke-dasharray="${dash}"`
            button.innerHTML = `<svg width="28" height="12" viewBox="0 0 28 12" aria-hidden="true">
                <line x1="1" x2="27" y1="6" y2="6" ${line}/>
                <path d="${MARKERS[marker] ?? ""}" fill="${colour}"/></svg>`
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
