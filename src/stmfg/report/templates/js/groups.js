// Domains as the reader wants them: at a level of the tree, merged, renamed, recoloured. Nothing here knows of the page.
import { hex, rgb } from "./colours.js";

export const NO_EDITS = Object.freeze({ merge: [], rename: {}, colors: {} });

/** The colour of a domain that is on no list: of a joint its first, of a part a lighter or darker one of the whole. */
export function shadeOf(name, colours) {
  if (name in colours) return colours[name];
  const whole = name.includes("+") ? name.split("+")[0] : name.slice(0, name.lastIndexOf("."));
  if (!whole || whole === name) return "#888888";
  const shade = shadeOf(whole, colours);
  const part = name.includes("+") ? 1 : Number(name.slice(name.lastIndexOf(".") + 1));
  if (!(part > 1)) return shade;
  const target = part % 2 ? 0 : 255;
  return hex(rgb(shade).map((v) => v + (target - v) * Math.min(0.25 + 0.12 * part, 0.8)));
}

/**
 * The groups of spots to show: `{ of, groups }`, with the group of each leaf, and of each group its `key`, `name`,
 * `colour` and `members`.
 *
 * `labels` has the name of each leaf at the chosen level, in the order of the domains; `edits` are as they are saved, but
 * for colours and names, which go by the key: the name before it is changed, "2+5" of a joint.
 */
export function makeGroups(labels, colours, edits = NO_EDITS) {
  const names = [...new Set(labels)];
  const joined = new Map();
  for (const list of edits.merge) {
    const among = names.filter((name) => list.includes(name));
    if (among.length > 1) for (const name of among) joined.set(name, among);
  }
  const groups = [];
  const place = new Map();
  for (const name of names) {
    const members = joined.get(name) ?? [name];
    if (members[0] === name) {
      const key = members.join("+");
      groups.push({
        key,
        members,
        name: edits.rename[key] ?? key,
        colour: edits.colors[key] ?? shadeOf(members.find((m) => m in colours) ?? members[0], colours),
      });
    }
    place.set(name, members[0] === name ? groups.length - 1 : place.get(members[0]));
  }
  return { of: Uint16Array.from(labels, (name) => place.get(name)), groups };
}

/** Edits with some groups joined; the names and colours of what is no more are dropped. */
export function merge(edits, groups) {
  const members = groups.flatMap((group) => group.members);
  const gone = groups.map((group) => group.key);
  const keep = (given) => Object.fromEntries(Object.entries(given).filter(([key]) => !gone.includes(key)));
  const others = edits.merge.filter((list) => !list.some((name) => members.includes(name)));
  return { merge: [...others, members], rename: keep(edits.rename), colors: keep(edits.colors) };
}

/** Edits without the joint of a group. */
export function unmerge(edits, group) {
  return { ...edits, merge: edits.merge.filter((list) => !list.some((name) => group.members.includes(name))) };
}

/** Why a name cannot be that of a group, or "". */
export function nameProblem(name, group, groups) {
  if (!name.trim()) return "A domain needs a name.";
  const twin = groups.find((other) => other !== group && other.name === name.trim());
  return twin ? `Another domain is called ${twin.name}.` : "";
}

/** Edits, and what is selected, as the file that `stmfg report RESULT --edits FILE` takes; colours go by the new names. */
export function toFile(edits, groups, selections, level = null) {
  const of = (given) => groups.filter(({ key }) => key in given);
  return {
    stmfg_edits: 1,
    ...(level === null ? {} : { level }),
    merge: edits.merge.filter((list) => groups.some(({ members }) => members.length > 1 && list.includes(members[0]))),
    rename: Object.fromEntries(of(edits.rename).map(({ key }) => [key, edits.rename[key]])),
    colors: Object.fromEntries(of(edits.colors).map(({ key, name }) => [name, edits.colors[key]])),
    selections,
  };
}

/** What such a file holds: `{ edits, selections, level }`. Throws a sentence where it is no such file. */
export function fromFile(text, labelsAt) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    file = null;
  }
  if (file?.stmfg_edits !== 1) throw new Error("This is no file of edits that a report saved.");
  const strings = (list) => Array.isArray(list) && list.every((each) => typeof each === "string");
  const level = Number.isInteger(file.level) ? file.level : null;
  const edits = {
    merge: (Array.isArray(file.merge) ? file.merge : []).filter(strings),
    rename: Object.fromEntries(Object.entries(file.rename ?? {}).filter(([, name]) => typeof name === "string")),
    colors: {},
  };
  const { groups } = makeGroups(labelsAt(level), {}, edits);
  for (const { key, name } of groups) {
    const colour = file.colors?.[name] ?? file.colors?.[key];
    if (/^#[0-9a-f]{6}$/i.test(colour)) edits.colors[key] = colour.toLowerCase();
  }
  const known = new Set(groups.flatMap(({ key, members }) => [key, ...members]));
  const unknown = [...edits.merge.flat(), ...Object.keys(edits.rename)].filter((name) => !known.has(name));
  if (unknown.length) throw new Error(`This report has no domain ${unknown[0]}: the file belongs to another result.`);
  const selections = (Array.isArray(file.selections) ? file.selections : []).filter(
    (each) => typeof each?.name === "string" && strings(each.spots),
  );
  return { edits, selections, level };
}
