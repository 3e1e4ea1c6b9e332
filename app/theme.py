"""One calm theme: system fonts (nothing is fetched), one accent, and the few classes that our own HTML uses."""

from __future__ import annotations

from typing import Any

INK = "#1f2933"
ACCENT = "#2f5d8a"
QUIET = "#8795a1"
GOOD = "#2f855a"
BAD = "#b83232"
AMBER = "#b7791f"

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "Liberation Mono", "monospace")


def theme() -> Any:
    """Gradio's base theme in our colours; plain strings as fonts, because font objects would be fetched."""
    import gradio as gr

    return gr.themes.Base(
        primary_hue=gr.themes.Color(
            "#eef4fa",
            "#d9e6f2",
            "#b7cfe5",
            "#8fb3d4",
            "#5f8fbd",
            "#3f73a5",
            "#2f5d8a",
            "#274d73",
            "#20405f",
            "#1a344d",
            "#12253a",
        ),
        neutral_hue="slate",
        radius_size="md",
        spacing_size="md",
        font=list(SANS),
        font_mono=list(MONO),
    ).set(
        body_background_fill="#f6f7f9",
        body_text_color=INK,
        block_background_fill="#ffffff",
        block_border_color="#e1e5ea",
        block_label_background_fill="#ffffff",
        block_label_text_color="#52606d",
        block_title_text_color="#3e4c59",
        block_shadow="none",
        button_primary_background_fill="#2f5d8a",
        button_primary_background_fill_hover="#274d73",
        button_primary_text_color="#ffffff",
        input_background_fill="#ffffff",
        input_border_width="1px",
        input_border_color="#cfd6dd",
        checkbox_label_background_fill="#ffffff",
        checkbox_label_background_fill_hover="#f2f5f8",
        checkbox_label_background_fill_selected="#e7eef5",
        checkbox_label_border_color="#e1e5ea",
        checkbox_label_border_width="1px",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#eef2f6",
        button_secondary_border_color="#cfd6dd",
        button_border_width="1px",
        section_header_text_weight="600",
        button_large_text_weight="600",
        button_large_text_size="15px",
    )


def html_box(value: object = "", **options: Any) -> Any:
    """A place on the page for HTML made by `markup.el`, without Gradio's own type and padding."""
    import gradio as gr

    return gr.HTML(value, apply_default_css=False, padding=False, **options)


CSS = """
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: 0 auto !important; }
.main.app.app { padding: 12px 20px 40px !important; }
.html-container.html-container { padding: 0 !important; }
footer { display: none !important; }
.lo-scope { color: var(--body-text-color); font-size: 15px; line-height: 1.5; }
.lo-head { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; padding: 4px 0; }
.lo-head h1 { font-size: 22px; font-weight: 650; letter-spacing: -0.01em; margin: 0; }
.lo-head code { font-size: 12.5px; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.lo-card { background: var(--block-background-fill); border: 1px solid var(--block-border-color); border-radius: 10px;
  padding: 16px 18px; margin: 0; height: 100%; box-sizing: border-box; }
.lo-card h3, .lo-scope h3 { font-size: 13px; font-weight: 600; color: var(--body-text-color-subdued); margin: 0 0 8px;
  letter-spacing: 0.01em; }
.lo-scope h4 { font-size: 14px; font-weight: 600; margin: 14px 0 4px; }
.lo-card p { margin: 0 0 6px; overflow-wrap: anywhere; }
.lo-big { font-size: 24px; font-weight: 650; letter-spacing: -0.01em; margin: 0 0 4px; overflow-wrap: anywhere; }
.lo-stack > * { margin-bottom: 14px; }
.lo-quiet { color: var(--body-text-color-subdued); font-size: 13.5px; }
.lo-grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 14px; }
.lo-pair { display: grid; gap: 14px; grid-template-rows: 1fr auto; }
.lo-list { margin: 0; padding: 0; list-style: none; }
.lo-list li { padding: 5px 0; border-top: 1px solid var(--block-border-color); overflow-wrap: anywhere; }
.lo-list li:first-child { border-top: 0; }
.lo-chip { display: inline-block; font-size: 12.5px; line-height: 1.5; font-weight: 550; padding: 1px 9px;
  border-radius: 99px;
  background: #e8edf3; color: #33475b; white-space: nowrap; max-width: 100%; overflow: hidden;
  text-overflow: ellipsis;
  vertical-align: middle; }
.lo-chip.lo-good { background: #dff1e7; color: #216844; }
.lo-chip.lo-bad { background: #f8e1e0; color: #9b2c2c; }
.lo-chip.lo-busy { background: #fbf0d9; color: #8a5a14; }
.lo-note { border-left: 3px solid var(--color-accent); background: var(--block-background-fill); padding: 10px 14px;
  border-radius: 4px; overflow-wrap: anywhere; }
.lo-note.lo-bad { border-left-color: #b83232; }
.lo-note.lo-good { border-left-color: #2f855a; }
.lo-empty { text-align: center; padding: 34px 16px; color: var(--body-text-color-subdued); border: 1px dashed
  var(--block-border-color); border-radius: 10px; background: var(--block-background-fill); }
.lo-empty-what { font-size: 17px; font-weight: 600; color: var(--body-text-color); margin: 0 0 4px; }
.lo-scroll { overflow-x: auto; }
.lo-scope table { width: 100%; border-collapse: collapse; font-size: 14px; }
.lo-scope th { text-align: left; font-weight: 600; font-size: 12.5px; color: var(--body-text-color-subdued);
  padding: 6px 10px
  6px 0; border-bottom: 1px solid var(--block-border-color); white-space: nowrap; }
.lo-scope td { padding: 7px 10px 7px 0; border-bottom: 1px solid var(--block-border-color); vertical-align: top;
  overflow-wrap: anywhere; }
.lo-answers td:first-child { min-width: 240px; white-space: pre-wrap; }
.lo-scope a { color: #2f5d8a; text-decoration: underline; }
.lo-because th:last-child { width: 62%; }
.lo-num { font-variant-numeric: tabular-nums; white-space: nowrap; }
.lo-talk { display: flex; flex-direction: column-reverse; height: clamp(220px, 36vh, 460px); overflow-y: auto;
  padding: 14px; box-sizing: border-box; border: 1px solid var(--block-border-color); border-radius: 10px;
  background: var(--block-background-fill); }
.lo-turns { display: flex; flex-direction: column; gap: 10px; margin-bottom: auto !important; }
.lo-say { max-width: 88%; padding: 9px 13px; border-radius: 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
.lo-user { align-self: flex-end; background: #2f5d8a; color: #fff; border-bottom-right-radius: 4px; }
.lo-assistant { align-self: flex-start; background: var(--background-fill-secondary);
  border-bottom-left-radius: 4px; }
.lo-by { align-self: flex-start; margin-bottom: -6px; display: flex; gap: 6px; align-items: center; }
.lo-tokens { line-height: 2.1; font-size: 15.5px; padding: 16px 18px; border: 1px solid var(--block-border-color);
  border-radius: 10px; background: var(--block-background-fill); overflow-wrap: anywhere; }
.lo-token { position: relative; padding: 3px 1px; border-radius: 4px; white-space: pre-wrap; color: #1f2933;
  cursor: default; }
.lo-tip { visibility: hidden; position: absolute; z-index: 30; left: 0; top: 1.9em; background: #1f2933; color: #fff;
  font-size: 12.5px; line-height: 1.55; padding: 7px 10px; border-radius: 6px; white-space: pre; width: max-content;
  max-width: 260px; overflow: hidden; }
.lo-token:hover .lo-tip, .lo-token:focus .lo-tip { visibility: visible; }
.lo-masked { background: #eceff3; color: #7b8794; }
.lo-trained { background: #cfe3d6; }
.lo-left { background: #f3dcd6; color: #8c5b4f; text-decoration: line-through; }
.lo-share { display: flex; height: 10px; border-radius: 5px; overflow: hidden; margin-top: 6px; min-width: 180px; }
.lo-share span { display: block; }
.lo-key { display: flex; gap: 14px; align-items: center; flex-wrap: wrap; font-size: 13px; margin: 0 0 8px;
  color: var(--body-text-color-subdued); }
.lo-swatch { display: inline-block; width: 14px; height: 14px; border-radius: 3px; margin-right: 5px;
  vertical-align: -2px;
  border: 1px solid rgba(0, 0, 0, 0.12); }
.lo-log { font-family: var(--font-mono); font-size: 12.5px; line-height: 1.45; white-space: pre-wrap;
  overflow-wrap: anywhere;
  max-height: 260px; overflow-y: auto; background: #1f2933; color: #e4e7eb; padding: 12px 14px; border-radius: 8px;
  margin: 0; }
.lo-bar { height: 8px; border-radius: 99px; background: #e4e8ed; overflow: hidden; margin: 8px 0; }
.lo-bar > div { height: 100%; background: #2f5d8a; }
.lo-pick fieldset .wrap, .lo-pick .wrap { flex-direction: column; gap: 4px; flex-wrap: nowrap; max-height: 360px;
  overflow-y: auto; }
.lo-pick label { width: 100%; }
.lo-prompts { gap: 6px !important; }
.lo-prompts button { flex: 0 1 auto !important; min-width: 0 !important; width: auto !important;
  font-weight: 450 !important;
  max-width: 100%; white-space: normal; text-align: left; border-radius: 99px !important; }
.dark .lo-chip { background: #334155; color: #dbe4ee; }
.dark .lo-token { color: #e5e9ee; }
.dark .lo-masked { background: #2b3647; color: #93a1b3; }
.dark .lo-trained { background: #285a42; }
.dark .lo-left { background: #4d2f28; color: #d2a498; }
@media (max-width: 640px) {
  .tab-container button { padding-left: 9px !important; padding-right: 9px !important; }
  .gradio-container { padding: 8px 10px 30px !important; }
  .lo-talk { height: 240px; }
  .lo-tip { position: fixed; left: 10px; right: 10px; bottom: 10px; top: auto; width: auto; max-width: none; }
}
"""
