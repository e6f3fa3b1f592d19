// Latitude and longitude of the pointer: inverse polar stereographic projection of Snyder (1987, Map
// Projections, USGS Professional Paper 1395), WGS 84, true at 70 degrees, with 45 W downwards in the
// north and 0 E upwards in the south.
const [x, y] = [special_vars.x * 1e3, special_vars.y * 1e3]
const e = 0.0818191908426215, a = 6378137, phi_c = 70 * Math.PI / 180
const half = (phi) => Math.tan(Math.PI / 4 - phi / 2)
    / Math.pow((1 - e * Math.sin(phi)) / (1 + e * Math.sin(phi)), e / 2)
const m_c = Math.cos(phi_c) / Math.sqrt(1 - (e * Math.sin(phi_c)) ** 2)
const t = Math.hypot(x, y) * half(phi_c) / (a * m_c)
let phi = Math.PI / 2 - 2 * Math.atan(t)
for (let i = 0; i < 6; i++) {
    const s = e * Math.sin(phi)
    phi = Math.PI / 2 - 2 * Math.atan(t * Math.pow((1 - s) / (1 + s), e / 2))
}
let lon = south ? Math.atan2(x, y) * 180 / Math.PI : Math.atan2(x, -y) * 180 / Math.PI - 45
lon = ((lon + 540) % 360) - 180
const latitude = `${(phi * 180 / Math.PI).toFixed(2)}°${south ? "S" : "N"}`
const degrees = (south ? -phi : phi) * 180 / Math.PI
const inside = Object.entries(regions).filter(([_, [from, to, west, width]]) =>
    from <= degrees && degrees <= to && (((lon - west) % 360) + 360) % 360 < width)
const names = inside.map(([name]) => name).join(", ")
return `${latitude} ${Math.abs(lon).toFixed(2)}°${lon < 0 ? "W" : "E"} ${names}`
