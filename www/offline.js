// Keeps the page for use without a network, and offers a new version once it is installed.
import { button, html } from './dom.js';

/** Registers the service worker and shows its progress in the footer. */
export async function keepOffline() {
  // Not available on an insecure page, nor in some private windows.
  if (!('serviceWorker' in navigator)) return;
  const note = html('offline');
  const update = button('update');
  try {
    const registration = await navigator.serviceWorker.register('sw.js', { updateViaCache: 'none' });
    const offer = () => {
      // Without a controller this is the first visit: the installed version is the open one.
      if (registration.waiting && navigator.serviceWorker.controller) update.hidden = false;
    };
    offer();
    registration.addEventListener('updatefound', () => registration.installing?.addEventListener('statechange', offer));
    update.addEventListener('click', () => {
      navigator.serviceWorker.addEventListener('controllerchange', () => location.reload(), { once: true });
      registration.waiting?.postMessage('activate');
    });
    if (!registration.active) await installed(registration);
    note.textContent = 'It also works offline.';
  } catch {
    note.textContent = 'It could not be kept for use offline.';
  }
}

/** Resolves when the first installation is done, rejects when it fails. @param {ServiceWorkerRegistration} registration */
function installed({ installing }) {
  return new Promise((resolve, reject) => {
    installing?.addEventListener('statechange', () => {
      if (installing.state === 'activated') resolve(undefined);
      if (installing.state === 'redundant') reject(new Error('the service worker was not installed'));
    });
  });
}
