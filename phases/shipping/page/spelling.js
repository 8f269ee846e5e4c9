// One spelling of joint names, as skeletons.py has it: skeletons.js has its known skeletons so spelled. No browser.

const SIDES = { l: "left", r: "right", left: "left", right: "right" };
const ALIKE = { center: "centre", naval: "navel", handtip: "hand tip" };

/** A joint's name in one spelling: LeftShoulder, left_shoulder and shoulder_l become "left shoulder". */
export function spelled(joint) {
  const parted = joint.replace(/[_.-]/g, " ").replace(/(?<=[a-z])(?=[A-Z])|(?<=\b[LR])(?=[A-Z][a-z])/g, " ");
  let words = parted.toLowerCase().split(/\s+/).filter(Boolean).map((word) => ALIKE[word] ?? word);
  const sides = words.filter((word) => Object.hasOwn(SIDES, word));
  if (sides.length === 1 && words.length > 1) words = [SIDES[sides[0]], ...words.filter((word) => word !== sides[0])];
  return words.join(" ").replaceAll("foot index", "foot");
}
