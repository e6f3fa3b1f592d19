// Keeps the address of the browser equal to the value of the text field `bar`. Another page is a new
// entry of the browser's history, another selection is not. The address is written when the value
// has not changed for 200 ms, because browsers refuse frequent writes.
const page = (search) => new URLSearchParams(search).get("page")
let shown = page(bar.value)
let timer
const write = () => {
    const next = page(bar.value)
    history[next === shown ? "replaceState" : "pushState"](null, "", bar.value)
    shown = next
}
write()
bar.properties.value.change.connect(() => {
    clearTimeout(timer)
    if (page(bar.value) === shown) timer = setTimeout(write, 200)
    else write()
})
addEventListener("popstate", () => {
    clearTimeout(timer)
    shown = page(location.search)
    bar.value = location.search
})

// A link to another selection changes the page in place.
addEventListener("click", (event) => {
    const link = event.composedPath().find((node) => node.localName === "a")
    const search = link?.getAttribute("href")
    if (!search?.startsWith("?") || event.defaultPrevented || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    history.pushState(null, "", search)
    dispatchEvent(new PopStateEvent("popstate"))
})
