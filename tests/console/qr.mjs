// Reads QR codes with jsQR: lines of "TEXT-AS-HEX ROW ROW …". Exit status 0 when each says its text.
//   node qr.mjs FILE
import { readFileSync } from "node:fs";
import jsQR from "jsqr";

const SCALE = 3, MARGIN = 4;
let wrong = 0, count = 0;
for (const line of readFileSync(process.argv[2], "utf8").split("\n").filter(Boolean)) {
  const [hex, ...rows] = line.split(" ");
  const side = (rows.length + 2 * MARGIN) * SCALE;
  const pixels = new Uint8ClampedArray(side * side * 4).fill(255);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      if (rows[Math.floor(y / SCALE) - MARGIN]?.[Math.floor(x / SCALE) - MARGIN] === "1") pixels.fill(0, (y * side + x) * 4, (y * side + x) * 4 + 3);
  const read = jsQR(pixels, side, side);
  const said = read && Buffer.from(read.binaryData).toString("hex");
  count++;
  if (said === hex) continue;
  wrong++;
  console.log(`a code of ${hex.length / 2} bytes (${rows.length} modules) reads ${said ?? "nothing"}`);
}
console.log(`${count} codes, ${wrong} wrong`);
process.exit(wrong || !count ? 1 : 0);
