// Explains why nothing works if the page's modules cannot be loaded: it was opened as a file, or a part of it did not arrive. A classic
// script, because browsers load those from anywhere.
(() => {
  const fromFile = location.protocol === 'file:';
  const tell = () => {
    const status = /** @type {HTMLElement} */ (document.querySelector('#status'));
    status.textContent = fromFile
      ? 'Opened as a file, this page cannot load its net: run "make demo", or put its folder on any web server.'
      : 'A part of this page did not arrive: check the connection and reload it.';
    status.classList.add('error');
    for (const button of document.querySelectorAll('button')) button.disabled = true;
  };
  if (fromFile) addEventListener('DOMContentLoaded', tell);
  else addEventListener('error', ({ target }) => target instanceof HTMLScriptElement && tell(), true);
})();
