// Text from nodes is hostile: it is only ever put into text nodes, and what would deceive a reader is made visible.

// Also half of a surrogate pair, which stands for a byte of a name that is no UTF-8.
export const DECEIVING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const shown = (character) => {
  const code = character.charCodeAt(0);
  return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
};

// One line: control characters, line ends and marks that turn the direction of text become visible escapes.
export const line = (value) => String(value ?? "").replace(/\t/g, "\\t").replace(/\n/g, "\\n").replace(DECEIVING, shown);

// Several lines: line ends and tabs stay.
export const block = (value) => String(value ?? "").replace(/\r\n/g, "\n").replace(DECEIVING, shown);

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(number) {
  if (typeof number !== "number") return "";
  let power = 0;
  let value = number;
  while (value >= 1024 && power < UNITS.length - 1) { value /= 1024; power += 1; }
  return `${power && value < 100 ? value.toFixed(1) : Math.round(value)} ${UNITS[power]}`;
}

// "512M" as the command line takes it; what is no size stays as it is, and the agent says what is wrong with it.
export function parseSize(text) {
  const found = /^([0-9]+(?:\.[0-9]+)?)\s*([KMGT])(?:i?B)?$/i.exec(text.trim());
  if (!found) return parseNumber(text);
  return Math.round(Number(found[1]) * 1024 ** ("KMGT".indexOf(found[2].toUpperCase()) + 1));
}

export function parseNumber(text) {
  const value = text.trim();
  return /^[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$/i.test(value) ? Number(value) : value;
}

// "8h" from now as a time; what is no such span stays as it is.
export function parseTime(text) {
  const found = /^([1-9][0-9]{0,5})([smhd])$/.exec(text.trim());
  if (!found) return text.trim();
  return new Date(Date.now() + Number(found[1]) * { s: 1, m: 60, h: 3600, d: 86400 }[found[2]] * 1000).toISOString();
}

export function ago(seconds) {
  const passed = Math.max(0, Math.round(seconds));
  if (passed < 60) return `${passed} s`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min`;
  if (passed < 172800) return `${Math.floor(passed / 3600)} h`;
  return `${Math.floor(passed / 86400)} d`;
}

// Words of a command line, as a shell splits them: quotes and backslashes, nothing else. null: a quote is open.
export function splitWords(text) {
  const words = [];
  let word = null;
  let quote = "";
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (quote) {
      if (character === quote) quote = "";
      else if (character === "\\" && quote === '"' && '"\\$`'.includes(text[at + 1])) { at += 1; word += text[at]; }
      else word += character;
    } else if (character === "'" || character === '"') { quote = character; word ??= ""; }
    else if (/\s/.test(character)) { if (word !== null) words.push(word); word = null; }
    else if (character === "\\" && at + 1 < text.length) { at += 1; word = (word ?? "") + text[at]; }
    else word = (word ?? "") + character;
  }
  if (quote) return null;
  if (word !== null) words.push(word);
  return words;
}

export const shellQuote = (word) => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
