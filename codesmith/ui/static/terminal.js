// What a program wrote, as lines: colours (SGR) become classes, every other control sequence is dropped. Whatever
// comes, it costs a bounded amount of memory. Who shows the text makes visible in it what would deceive a reader.

const LINES_MAX = 4000;
const CHARACTERS_MAX = 1 << 20;
const SLACK = 500;
const LINE_MAX = 4096;
const SEQUENCE_MAX = 1024;
const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

// CSI; the strings OSC, DCS, SOS, PM and APC up to BEL or ST, at most to the end of their line; other escapes.
const SEQUENCE = /\u001b\[([0-9:;<=>?]*)[ -/]*([@-~])|\u001b[\]PX^_][^\u0007\u001b\n]*(?:\u0007|\u001b\\|(?=[\n\u001b]))|\u001b[ -/]*[0-Z\\`-~]/g;
// The beginning of one whose end may come with the next piece.
const OPEN = /\u001b(?:\[[0-9:;<=>?]*[ -/]*|[\]PX^_][^\u0007\u001b\n]*\u001b?|[ -/]*)?$/;

export function styled(before, text) {
  const codes = text === "" ? [0] : text.split(/[;:]/).map(Number);
  let classes = new Set(before);
  const colour = (kind, name) => {
    classes = new Set([...classes].filter((one) => !one.startsWith(kind)));
    if (name) classes.add(`${kind}${name}`);
  };
  for (let at = 0; at < codes.length; at += 1) {
    const number = codes[at];
    if (number === 0) classes = new Set();
    else if (number === 1) classes.add("bold");
    else if (number === 4) classes.add("underline");
    else if (number === 22) classes.delete("bold");
    else if (number === 24) classes.delete("underline");
    else if (number >= 30 && number <= 37) colour("fg-", COLOURS[number - 30]);
    else if (number >= 90 && number <= 97) colour("fg-", COLOURS[number - 90]);
    else if (number >= 40 && number <= 47) colour("bg-", COLOURS[number - 40]);
    else if (number === 38 || number === 48) at += codes[at + 1] === 5 ? 2 : 4; // 256 colours: not drawn
    else if (number === 39) colour("fg-", "");
    else if (number === 49) colour("bg-", "");
  }
  return classes;
}

// Lines of both streams in the order in which they came; the first ones go when there are too many. A line has
// {number, stream, parts: [[text, classes]], size}; `onChange` is called after each change.
export class Screen {
  constructor(onChange = () => {}) {
    this.onChange = onChange;
    this.clear();
  }

  clear() {
    this.lines = [];
    this.first = 0; // the number of the first line that is kept
    this.next = 0;
    this.characters = 0;
    this.states = new Map();
    this.isOpen = false;
    this.onChange();
  }

  // Add text of a stream, as it came.
  write(stream, text) {
    const state = this.states.get(stream) ?? this.states.set(stream, { rest: "", classes: new Set() }).get(stream);
    let all = state.rest + text;
    state.rest = "";
    const open = OPEN.exec(all);
    if (open && all.length - open.index <= SEQUENCE_MAX) { state.rest = open[0]; all = all.slice(0, open.index); }
    if (all.endsWith("\r")) { state.rest = `\r${state.rest}`; all = all.slice(0, -1); } // a line end may follow
    let from = 0;
    for (const match of all.matchAll(SEQUENCE)) {
      this.print(stream, all.slice(from, match.index), state.classes);
      from = match.index + match[0].length;
      if (match[2] === "m" && /^[0-9;:]*$/.test(match[1])) state.classes = styled(state.classes, match[1]);
    }
    this.print(stream, all.slice(from), state.classes);
    this.onChange();
  }

  // The end of what a stream writes: what waited for more is shown.
  finish() {
    for (const [stream, state] of this.states) {
      this.print(stream, state.rest.replace(/^\r/, ""), state.classes);
      state.rest = "";
    }
    this.isOpen = false;
    this.onChange();
  }

  // A line of our own, between those of the program.
  note(text) {
    this.isOpen = false;
    this.begin("note");
    this.add(text, "");
    this.isOpen = false;
    this.onChange();
  }

  print(stream, text, classes) {
    if (!text) return;
    const names = [...classes].join(" ");
    const pieces = text.replaceAll("\r\n", "\n").split("\n");
    // Lines that would be dropped at once are not made.
    const from = Math.max(0, pieces.length - LINES_MAX - 1);
    if (from) { this.isOpen = false; this.next += from; this.drop(this.lines.length); }
    for (let at = from; at < pieces.length; at += 1) {
      if (at > from) {
        if (!this.isOpen || this.lines.at(-1).stream !== stream) this.begin(stream);
        this.isOpen = false;
      }
      // As on a terminal, a line is written anew after a carriage return.
      const back = pieces[at].lastIndexOf("\r");
      const piece = back < 0 ? pieces[at] : pieces[at].slice(back + 1);
      if (back >= 0 && this.isOpen && this.lines.at(-1).stream === stream) this.empty(this.lines.at(-1));
      for (let start = 0; start < piece.length; start += LINE_MAX) {
        const line = this.lines.at(-1);
        if (!this.isOpen || line.stream !== stream || line.size >= LINE_MAX) this.begin(stream);
        this.add(piece.slice(start, start + LINE_MAX), names);
      }
    }
  }

  begin(stream) {
    this.lines.push({ number: this.next, stream, parts: [], size: 0 });
    this.next += 1;
    this.isOpen = true;
    // Many at once: taking the first one out of a long list costs as much as taking out a thousand.
    if (this.lines.length <= LINES_MAX + SLACK && this.characters <= CHARACTERS_MAX + SLACK * LINE_MAX) return;
    let many = Math.max(0, this.lines.length - LINES_MAX);
    let left = this.characters;
    for (let at = 0; at < many; at += 1) left -= this.lines[at].size;
    for (; left > CHARACTERS_MAX && many < this.lines.length - 1; many += 1) left -= this.lines[many].size;
    this.drop(many);
  }

  drop(many) {
    for (const line of this.lines.splice(0, many)) this.characters -= line.size;
    this.first = this.lines[0]?.number ?? this.next;
  }

  add(text, names) {
    const line = this.lines.at(-1);
    const last = line.parts.at(-1);
    if (last && last[1] === names) last[0] += text; else line.parts.push([text, names]);
    line.size += text.length;
    this.characters += text.length;
  }

  empty(line) {
    this.characters -= line.size;
    line.parts = [];
    line.size = 0;
  }
}
