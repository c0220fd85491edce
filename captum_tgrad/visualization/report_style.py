"""How a report looks: on a screen of any width, in the dark, and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1b1a; --faint: #6b6762; --paper: #fff;
  --line: #dcd8d2; --band: #f6f4f1; --accent: #b35806; }
@media (prefers-color-scheme: dark) { :root { --ink: #ece9e4; --faint: #a8a29a;
  --paper: #1a1918; --line: #3b3835; --band: #242220; --accent: #f0a35c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .6rem 0; }
header p, footer, figcaption, caption { color: var(--faint); font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; list-style: none; }
a { color: var(--accent); }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption, caption { text-align: left; padding: .4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
tbody tr:nth-child(even) { background: var(--band); }
tbody th { font-weight: 500; white-space: nowrap; }
td.best { font-weight: 700; }
td span { white-space: nowrap; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1rem;
  font-size: .9rem; }
dt { color: var(--faint); }
dd { margin: 0; }
caption { position: sticky; left: 0; max-width: calc(100vw - 2rem); }
@media (max-width: 40rem) { th, td { padding: .3rem .4rem; }
  figure img { min-width: 44rem; }
  tbody th { position: sticky; left: 0; background: var(--paper); }
  tbody tr:nth-child(even) th { background: var(--band); } }
@media print { :root { color-scheme: light; --ink: #000; --faint: #444; --paper: #fff;
  --line: #bbb; --band: #f4f4f4; --accent: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .scroll { overflow: visible; } figure img { min-width: 0; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } }
"""
