"""Colours, fonts and axes that all charts share."""

from typing import Any

FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

BLUE, GREY, ORANGE = "#3b82f6", "#94a3b8", "#f59e0b"

RISE, FALL = "#26a69a", "#ef5350"

BUY, SELL = "#16a34a", "#dc2626"

LOSS_TO_GAIN = ("#f87171", "#fecaca", "#f8fafc", "#bbf7d0", "#4ade80")

CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None, "continuousWidth": 900, "discreteWidth": 900},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": "#475569",
        "titleColor": "#475569",
        "gridColor": "#e2e8f0",
        "domainColor": "#cbd5e1",
        "tickColor": "#cbd5e1",
        "labelFlush": True,
    },
    "legend": {"labelFontSize": 12, "labelColor": "#475569", "orient": "top", "title": None, "symbolStrokeWidth": 3},
}

CLOCK = {"hours": "%H:%M", "minutes": "%H:%M", "seconds": "%H:%M:%S"}
