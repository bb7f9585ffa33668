// What is wrong with the page, for whoever cannot see it, sees it badly, or holds it in one hand.
(() => {
  const wrong = [];
  const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [1, 1, 1, 1];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest("script, style, noscript, .unseen")) continue;
    const style = getComputedStyle(element);
    const [one, other] = [luminance(rgba(style.color)), luminance(ground(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (contrast < (large ? 3 : 4.5)) wrong.push(`contrast ${contrast.toFixed(2)}: ${node.data.trim()}`);
    if (parseFloat(style.fontSize) < 12) wrong.push(`small letters: ${node.data.trim()}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`${document.documentElement.scrollWidth} wide`);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push(`id twice: ${id}`);
  for (const one of document.querySelectorAll("[aria-labelledby]")) {
    if (one.children.length && !document.getElementById(one.getAttribute("aria-labelledby"))) wrong.push(`no label: ${one.id}`);
  }
  for (const one of document.querySelectorAll("input, select")) {
    if (!one.labels.length) wrong.push(`no label: ${one.name}`);
  }
  for (const one of document.querySelectorAll("svg")) {
    const told = one.getAttribute("aria-hidden") === "true" || (one.getAttribute("role") === "img" && one.getAttribute("aria-label"));
    if (!told) wrong.push("a drawing that says nothing");
  }
  const levels = [...document.querySelectorAll("h1, h2, h3")].filter((one) => one.checkVisibility()).map((one) => Number(one.tagName[1]));
  levels.forEach((level, at) => {
    if (level > (levels[at - 1] ?? 0) + 1) wrong.push(`heading ${at} skips a level`);
  });
  if (levels.filter((level) => level === 1).length !== 1) wrong.push("not one main heading");
  if (!document.documentElement.lang || !document.title) wrong.push("no language or title");
  return wrong;
})();
