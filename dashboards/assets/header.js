// The header: links to the pages, a button that opens the controls on a narrow screen, and a button
// that switches between light and dark colours.
const THEME = "seaice-lab-theme"
const root = document.documentElement

export function render({model}) {
    const header = document.createElement("header")
    header.innerHTML = `
        <button class="drawer" aria-expanded="false" aria-label="Controls">\u2630 <span>Controls</span></button>
        <h1>Sea-Ice Lab</h1><nav aria-label="Pages"></nav>
        <button class="theme"><span aria-hidden="true">\u25D0</span></button>`
    const [drawer, theme] = header.querySelectorAll("button")
    const links = model.pages.map((page) => {
        const link = document.createElement("a")
        link.textContent = page[0].toUpperCase() + page.slice(1)
        link.dataset.page = page
        header.querySelector("nav").append(link)
        return link
    })
    const update = () => {
        for (const link of links) {
            const query = new URLSearchParams(location.search)
            query.set("page", link.dataset.page)
            link.href = `?${query}`  // the selection, for a new tab
            if (link.dataset.page === model.page) link.setAttribute("aria-current", "page")
            else link.removeAttribute("aria-current")
        }
        if (model.page) document.getElementById("skeleton")?.remove()
    }
    const open = (is_open) => {
        root.dataset.drawer = is_open ? "open" : "closed"
        drawer.setAttribute("aria-expanded", is_open)
    }
    const name_theme = () => {
        const other = root.dataset.theme === "dark" ? "Light" : "Dark"
        theme.title = `${other} colours`
        theme.setAttribute("aria-label", theme.title)
    }
    for (const event of ["focusin", "pointerdown", "contextmenu"]) header.addEventListener(event, update)
    for (const link of links) {
        link.addEventListener("click", (event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return
            event.preventDefault()
            open(false)
            model.page = link.dataset.page
        })
    }
    drawer.addEventListener("click", () => open(root.dataset.drawer !== "open"))
    document.addEventListener("pointerdown", (event) => {
        const path = event.composedPath()
        if (!path.includes(header) && !path.some((node) => node.classList?.contains("controls"))) open(false)
    })
    document.addEventListener("keydown", (event) => event.key === "Escape" && open(false))
    theme.addEventListener("click", () => {
        const value = root.dataset.theme === "dark" ? "light" : "dark"
        localStorage.setItem(THEME, value)
        location.reload()  // pictures are painted in their colours when they are made
    })
    model.on("page", update)
    name_theme()
    update()
    return header
}
