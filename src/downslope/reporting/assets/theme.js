(() => {
  let kept = null;
  try { kept = localStorage.getItem("downslope-theme"); } catch { /* a file may have no storage */ }
  const asked = { "#dark": "dark", "#light": "light" }[location.hash];
  if (asked || kept) document.documentElement.dataset.theme = asked || kept;
})();
