/** PNG of our plots, for places that show no SVG. The font comes along, since a server has none. */
import { createRequire } from 'node:module';
import { FlannelError, errorMessage } from '../../src/errors.js';

const FONT_FILES = ['dejavu-fonts-ttf/ttf/DejaVuSans.ttf', 'dejavu-fonts-ttf/ttf/DejaVuSans-Bold.ttf'];
/** Pixels for each of the SVG's, so that text is sharp on dense screens. */
const SCALE = 2;

/** @throws FlannelError `HOST` on a platform that the converter has no build for */
export async function renderPng(svg: string): Promise<Uint8Array> {
  const require = createRequire(import.meta.url);
  try {
    const { Resvg } = await import('@resvg/resvg-js');
    const fontFiles = FONT_FILES.map((file) => require.resolve(file));
    const font = { fontFiles, loadSystemFonts: false, defaultFontFamily: 'DejaVu Sans' };
    return new Resvg(svg, { font, fitTo: { mode: 'zoom', value: SCALE } }).render().asPng();
  } catch (error) {
    throw new FlannelError('HOST', `no PNG can be made here: ${errorMessage(error)}`);
  }
}
