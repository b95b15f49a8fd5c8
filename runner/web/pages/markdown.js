// Text of Claude's as Markdown. What comes out of the parser goes through the sanitizer, and the browser takes nothing else
// (Trusted Types). Without the libraries, or where a text is huge, it is shown as it is.
import { h, plain } from "./ui.js";
import { have } from "./lib/have.js";

const LARGE = 100000;
let parser, purify;

export async function prepare() {
  if (parser || !have.includes("markdown") || !have.includes("purify")) return;
  await Promise.all([import("./lib/markdown-it.js"), import("./lib/purify.js")]);
  // No HTML, and no images: those would be fetched from elsewhere.
  parser = globalThis.markdownit({ html: false, linkify: true, breaks: true }).disable("image");
  purify = globalThis.DOMPurify;
  purify.addHook("afterSanitizeAttributes", (node) => {
    if (node.tagName === "A") {
      node.setAttribute("target", "_blank");
      node.setAttribute("rel", "noopener noreferrer");
    }
    if (node.tagName === "PRE") {
      node.setAttribute("tabindex", "0");
      node.setAttribute("dir", "ltr"); // code reads from the left, whatever the text around it does
    }
  });
}

const rules = {
  ALLOWED_TAGS: ["p", "br", "strong", "em", "s", "code", "pre", "ul", "ol", "li", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "a",
    "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["href", "title", "start", "target", "rel", "tabindex"],
  ALLOWED_URI_REGEXP: /^(https?:|mailto:)/i,
  RETURN_TRUSTED_TYPE: true,
};

export function markdown(given) {
  const text = plain(given);
  if (!parser || text.length > LARGE) return h("div.plain", { dir: "auto" }, text);
  const element = h("div.markdown", { dir: "auto" });
  element.innerHTML = purify.sanitize(parser.render(text), rules);
  // A table that is wider than the screen is moved by itself, also by keys.
  for (const table of element.querySelectorAll("table")) {
    const place = h("div.scroll", { tabIndex: 0, role: "region", "aria-label": "Table" });
    table.replaceWith(place);
    place.append(table);
  }
  // The page's own heading is the only first one, and none of Claude's skips a level below it.
  for (const heading of element.querySelectorAll("h1, h3, h4, h5, h6")) {
    const second = h("h2");
    second.append(...heading.childNodes);
    heading.replaceWith(second);
  }
  return element;
}
