// A slider over times: native, so that keyboards and screen readers work, with dates below it.
const INTERVAL_MS = 400

export function render({model}) {
    const bar = document.createElement("div")
    bar.className = model.playable ? "time playable" : "time"
    const button = (name, symbol) => `<button aria-label="${name}" title="${name}">${symbol}</button>`
    const label = model.label.toLowerCase()
    bar.innerHTML = `
        <div class="steps">
            ${button(`Previous ${label}`, "\u2039")}
            ${model.playable ? button("Play", "\u25B6\uFE0E") : ""}
            ${button(`Next ${label}`, "\u203A")}
        </div>
        <div class="track">
            <div class="line"><span></span><output></output>
                ${model.calendar ? `<input type="date" aria-label="Date of the ${label}">` : ""}
            </div>
            <input type="range" min="0" step="1"><div class="marks" aria-hidden="true"></div>
        </div>`
    const buttons = [...bar.querySelectorAll("button")]
    const [previous, next] = [buttons[0], buttons[buttons.length - 1]]
    const play = model.playable ? buttons[1] : null
    const [slider, output] = [bar.querySelector("[type=range]"), bar.querySelector("output")]
    const calendar = bar.querySelector("[type=date]")
    const marks = bar.querySelector(".marks")
    let timer = null
    if (play) play.classList.add("play")
    bar.querySelector("span").textContent = model.label
    slider.setAttribute("aria-label", model.label)

    const count = () => model.texts.length
    const show = () => {
        slider.max = Math.max(count() - 1, 0)
        slider.value = model.value
        const text = model.texts[model.value] ?? ""
        output.textContent = text
        slider.setAttribute("aria-valuetext", text)
        bar.hidden = count() === 0
        if (calendar) {
            const days = model.texts.map((text) => text.slice(0, 10))
            Object.assign(calendar, {min: days[0], max: days.at(-1), value: days[model.value] ?? ""})
        }
    }
    const draw_marks = () => {
        marks.replaceChildren(...model.marks.map(([position, text]) => {
            const mark = document.createElement("span")
            mark.style.left = `${100 * position / Math.max(count() - 1, 1)}%`
            mark.textContent = text
            return mark
        }))
        show()
    }
    const select = (value) => {
        model.value = (value + count()) % count()
        show()
    }
    const stop = () => {
        clearInterval(timer)
        timer = null
        if (!play) return
        play.textContent = "\u25B6\uFE0E"
        play.title = "Play"
        play.setAttribute("aria-label", "Play")
    }
    const start = () => {
        timer = setInterval(() => bar.isConnected ? select(model.value + 1) : stop(), INTERVAL_MS)
        play.textContent = "\u23F8\uFE0E"
        play.title = "Pause"
        play.setAttribute("aria-label", "Pause")
    }
    slider.addEventListener("input", () => select(Number(slider.value)))
    calendar?.addEventListener("change", () => {  // the first time of the day, or of a later day
        const position = model.texts.findIndex((text) => text >= calendar.value)
        if (calendar.value) select(position < 0 ? count() - 1 : position)
    })
    previous.addEventListener("click", () => select(model.value - 1))
    next.addEventListener("click", () => select(model.value + 1))
    play?.addEventListener("click", () => timer === null ? start() : stop())
    const move = (event) => {
        if (!bar.isConnected) return document.removeEventListener("keydown", move)
        const step = {ArrowLeft: -1, ArrowRight: 1}[event.key]
        const target = event.composedPath()[0]
        const is_used = target.closest?.("input, select, textarea, [role=slider]")
        if (!step || is_used || event.ctrlKey || event.altKey || event.metaKey) return
        event.preventDefault()
        select(model.value + step)
    }
    if (model.playable) document.addEventListener("keydown", move)
    model.on("value", show)
    model.on("texts", draw_marks)
    model.on("marks", draw_marks)
    draw_marks()
    return bar
}
