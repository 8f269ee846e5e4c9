// Joints by name, as skeletons.py has them: which skeleton a table shows that names its joints. No browser.
// tests/shipping/test_page_formats.py holds this list against skeletons.py.

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

const listed = (text) => text.replace(/\s+/g, " ").split(", ");

export const JOINTS = { // skeleton -> its joints, as `spelled`
  ntu25: listed(`spine base, spine mid, neck, head, left shoulder, left elbow, left wrist, left hand, right
    shoulder, right elbow, right wrist, right hand, left hip, left knee, left ankle, left foot, right hip, right
    knee, right ankle, right foot, spine shoulder, left hand tip, left thumb, right hand tip, right thumb`),
  kinect20: listed(`hip centre, spine, shoulder centre, head, left shoulder, left elbow, left wrist, left hand,
    right shoulder, right elbow, right wrist, right hand, left hip, left knee, left ankle, left foot, right hip,
    right knee, right ankle, right foot`),
  coco17: listed(`nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow, right
    elbow, left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, right ankle`),
  mediapipe33: listed(`nose, left eye inner, left eye, left eye outer, right eye inner, right eye, right eye outer,
    left ear, right ear, left mouth, right mouth, left shoulder, right shoulder, left elbow, right elbow, left
    wrist, right wrist, left pinky, right pinky, left index, right index, left thumb, right thumb, left hip, right
    hip, left knee, right knee, left ankle, right ankle, left heel, right heel, left foot, right foot`),
  openpose25: listed(`nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow, left wrist,
    mid hip, right hip, right knee, right ankle, left hip, left knee, left ankle, right eye, left eye, right ear,
    left ear, left big toe, left small toe, left heel, right big toe, right small toe, right heel`),
  openpose18: listed(`nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow, left wrist,
    right hip, right knee, right ankle, left hip, left knee, left ankle, right eye, left eye, right ear, left ear`),
  halpe26: listed(`nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow, right
    elbow, left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, right ankle, head, neck,
    mid hip, left big toe, right big toe, left small toe, right small toe, left heel, right heel`),
  h36m17: listed(`mid hip, right hip, right knee, right ankle, left hip, left knee, left ankle, spine, thorax, neck,
    head, left shoulder, left elbow, left wrist, right shoulder, right elbow, right wrist`),
  azure32: listed(`pelvis, spine navel, spine chest, neck, left clavicle, left shoulder, left elbow, left wrist,
    left hand, left hand tip, left thumb, right clavicle, right shoulder, right elbow, right wrist, right hand,
    right hand tip, right thumb, left hip, left knee, left ankle, left foot, right hip, right knee, right ankle,
    right foot, head, nose, left eye, left ear, right eye, right ear`),
  smpl24: listed(`pelvis, left hip, right hip, spine1, left knee, right knee, spine2, left ankle, right ankle,
    spine3, left foot, right foot, neck, left collar, right collar, head, left shoulder, right shoulder, left elbow,
    right elbow, left wrist, right wrist, left hand, right hand`),
  nite15: listed(`head, neck, torso, left shoulder, left elbow, left hand, right shoulder, right elbow, right hand,
    left hip, left knee, left foot, right hip, right knee, right foot`),
  jhmdb15: listed(`neck, belly, head, right shoulder, left shoulder, right hip, left hip, right elbow, left elbow,
    right knee, left knee, right wrist, left wrist, right ankle, left ankle`),
  body16: listed(`hip centre, spine, neck, head, left shoulder, left elbow, left wrist, left hip, left knee, left
    ankle, right shoulder, right elbow, right wrist, right hip, right knee, right ankle`),
  hand21: listed(`wrist, thumb cmc, thumb mcp, thumb ip, thumb tip, index finger mcp, index finger pip, index finger
    dip, index finger tip, middle finger mcp, middle finger pip, middle finger dip, middle finger tip, ring finger
    mcp, ring finger pip, ring finger dip, ring finger tip, pinky mcp, pinky pip, pinky dip, pinky tip`),
  shrec22: listed(`wrist, palm, thumb cmc, thumb mcp, thumb ip, thumb tip, index finger mcp, index finger pip, index
    finger dip, index finger tip, middle finger mcp, middle finger pip, middle finger dip, middle finger tip, ring
    finger mcp, ring finger pip, ring finger dip, ring finger tip, pinky mcp, pinky pip, pinky dip, pinky tip`),
  smpl22: listed(`pelvis, left hip, right hip, spine1, left knee, right knee, spine2, left ankle, right ankle,
    spine3, left foot, right foot, neck, left collar, right collar, head, left shoulder, right shoulder, left elbow,
    right elbow, left wrist, right wrist`),
  holistic: listed(`nose, left eye inner, left eye, left eye outer, right eye inner, right eye, right eye outer,
    left ear, right ear, left mouth, right mouth, left shoulder, right shoulder, left elbow, right elbow, left
    wrist, right wrist, left pinky, right pinky, left index, right index, left thumb, right thumb, left hip, right
    hip, left knee, right knee, left ankle, right ankle, left heel, right heel, left foot, right foot, left hand
    wrist, left hand thumb cmc, left hand thumb mcp, left hand thumb ip, left hand thumb tip, left hand index finger
    mcp, left hand index finger pip, left hand index finger dip, left hand index finger tip, left hand middle finger
    mcp, left hand middle finger pip, left hand middle finger dip, left hand middle finger tip, left hand ring
    finger mcp, left hand ring finger pip, left hand ring finger dip, left hand ring finger tip, left hand pinky
    mcp, left hand pinky pip, left hand pinky dip, left hand pinky tip, right hand wrist, right hand thumb cmc,
    right hand thumb mcp, right hand thumb ip, right hand thumb tip, right hand index finger mcp, right hand index
    finger pip, right hand index finger dip, right hand index finger tip, right hand middle finger mcp, right hand
    middle finger pip, right hand middle finger dip, right hand middle finger tip, right hand ring finger mcp, right
    hand ring finger pip, right hand ring finger dip, right hand ring finger tip, right hand pinky mcp, right hand
    pinky pip, right hand pinky dip, right hand pinky tip`),
};
