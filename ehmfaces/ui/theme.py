"""How the page looks: colours, type and the few rules that phones need.

System and bundled fonts only, so that nothing is fetched from elsewhere.
"""

import gradio as gr

CSS = """
gradio-app { max-width: 100%; overflow-x: hidden; }
.gradio-container { max-width: min(1120px, 100vw) !important; margin: 0 auto !important; }
.gradio-container .wrap, .gradio-container main, .gradio-container .tabs { min-width: 0; max-width: 100%; }
.gradio-container, .gradio-container main { width: 100%; }
.ehm-head h1 { font-weight: 650; letter-spacing: -0.01em; margin-bottom: 0.1em; }
.ehm-head p { color: var(--body-text-color-subdued); margin-top: 0; }
.ehm-model { max-width: 36rem; gap: 0.4rem !important; margin-bottom: 0.2rem; }
.ehm-model-line p { color: var(--body-text-color-subdued); margin: 0; overflow-wrap: anywhere; }
.ehm-reading { overflow-wrap: anywhere; }
.ehm-bar { height: 0.6rem; border-radius: 0.3rem; overflow: hidden; background: var(--neutral-200); }
.dark .ehm-bar { background: var(--neutral-700); }
.ehm-bar div { height: 100%; background: var(--primary-600); transition: width 0.4s; }
.ehm-status p { margin: 0.3rem 0 0 0; }
.ehm-gallery .grid-wrap { min-height: 0 !important; max-height: none !important; }
.ehm-gallery .grid-wrap { padding-top: 2.4rem !important; }
.ehm-gallery:has(.thumbnail-item) { min-height: 0 !important; }
.ehm-faces .thumbnail-item { aspect-ratio: 4 / 5 !important; background: #1f2c38; }
.ehm-gallery .thumbnail-item img { object-fit: contain !important; }
.ehm-alpha img { background: repeating-conic-gradient(#d3d8de 0 25%, #f4f6f8 0 50%) 0 0 / 16px 16px; }
.ehm-table, .ehm-table * { font-family: var(--font) !important; }
.ehm-dice { align-self: end; }
@media (max-width: 640px) {
  .gradio-container { padding: 0.6rem !important; }
  .ehm-head h1 { font-size: 1.5rem; }
  .ehm-gallery .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
}
"""


def build_theme() -> gr.themes.Base:
    """Build the theme: slate grey, one quiet blue, plain system type."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.sky,
        secondary_hue=gr.themes.colors.slate,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_border_width="1px",
        block_shadow="none",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        slider_color="*primary_600",
    )
